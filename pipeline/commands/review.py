"""The commands to look at masks and to judge them: `locloc masks report`, `serve` and `decide`."""

from pathlib import Path
from typing import Annotated

import typer

from .json_option import Json, JsonCommand, print_or_write
from .options import BoxesIn, Name, Root, TruthClass, VersionName

Truth = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|FILE.json|catalog",
        help="Show ground truth too: masks, COCO's annotations, or the catalog's boxes.",
    ),
]
Sample = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Only N images, drawn evenly. Default: all up to 10,000.")
]
Everything = Annotated[bool, typer.Option("--all", help="All images, however many there are.")]


def add_to(masks: typer.Typer) -> None:
    for command in (report, serve, decide):
        masks.command(cls=JsonCommand)(command)


def report(
    version: VersionName,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write: new, empty or an earlier page.")],
    other: Annotated[
        str | None,
        typer.Argument(metavar="[VERSION]", help="Another version to compare with, of this store or STORE@VERSION."),
    ] = None,
    sample: Sample = None,
    everything: Everything = False,
    truth: Truth = None,
    boxes_in: BoxesIn = "upright",
    truth_class: TruthClass = None,
    root: Root = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read images.", show_default="one a core")
    ] = None,
    json: Json = None,
) -> None:
    """Write a page to look at masks and to judge them: a folder whose index.html any browser opens from disk.

    What is decided on the page leaves it as decisions.csv, of which `locloc masks decide` makes a version. With two
    versions the page shows both, sorted by how much they disagree. docs/review.md: 10,000 masks in an hour.

    **Example:** locloc masks report photos.store@v1 --out page
    """
    if sample is not None and everything:
        raise typer.BadParameter("give --sample or --all, not both")
    from ..inspect.ground_truth.masks import check_truth
    from ..io.console import print_warning
    from ..io.interrupts import interruptible
    from ..io.progress_bar import count_bar
    from ..store.reader import open_version, split_version_name
    from .rendering.review import print_report

    check_truth(truth, truth_class)
    opened, second = open_version(version), None
    if other is not None:
        second = open_version(other if "@" in other else f"{split_version_name(version)[0]}@{other}")
    from ..inspect.report.write import ReportRequest, write_report  # imports OpenCV: after the versions are found

    request = ReportRequest(opened, out, second, sample, everything, truth, boxes_in, truth_class, root, workers)
    with interruptible(), count_bar("drawing") as on_progress:
        summary = write_report(request, on_progress)
    print_or_write(summary, json, lambda: print_report(summary))
    if summary.lost_images:
        print_warning(
            f"{summary.lost_images} of {summary.rows} images have a mask and cannot be read; if they were moved, give "
            "their folder with --root"
        )


def serve(
    version: VersionName,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.", show_default="a free one")] = 0,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; the page is unencrypted HTTP.")
    ] = "127.0.0.1",
    decisions: Annotated[
        Path, typer.Option(metavar="FILE.csv", help="Keeps the decisions; goes on with what it holds.")
    ] = Path("decisions.csv"),
    sample: Sample = None,
    everything: Everything = False,
    root: Root = None,
) -> None:
    """Serve the page of `masks report` from this machine, without copying images: for stores on a cluster or in S3.

    The address is printed with a random token, without which nothing is answered. Only this machine can reach it unless
    --host says otherwise: from another, forward the port (`ssh -L 8000:localhost:8000 node`). Ctrl-C ends it.

    **Example:** locloc masks serve s3://bucket/photos@v1 --port 8000
    """
    if sample is not None and everything:
        raise typer.BadParameter("give --sample or --all, not both")
    from ..errors import StoreError
    from ..io.interrupts import interruptible
    from ..io.outputs import check_output_file
    from ..store import open_version
    from .rendering.review import print_served, print_stopped

    opened = open_version(version)
    from ..inspect.report.live import LivePage  # imports OpenCV: after the version is found
    from ..inspect.report.server import PageServer

    check_output_file(decisions, "--decisions", StoreError)
    page = LivePage(opened, decisions, sample, everything, root)
    with PageServer(page, host, port) as server:
        print_served(page, server.url)
        try:
            with interruptible():
                server.serve_forever()
        except KeyboardInterrupt:
            print_stopped(page, version)


def decide(
    version: VersionName,
    decisions: Annotated[
        Path,
        typer.Argument(metavar="DECISIONS.csv", help="Columns id, decision (accepted, rejected, undecided), note."),
    ],
    name: Name = None,
    json: Json = None,
) -> None:
    """Make a version in which masks are rejected or accepted, as a file says that the page of `masks report` exports.

    Everything else is shared with the version. Training, export and evaluation leave rejected rows out. Decisions that
    the version has already stay, unless the file has others about the same ids.

    **Example:** locloc masks decide photos.store@v1 decisions.csv
    """
    from ..build.decide import decide_version
    from ..inspect.report.decisions_csv import read_decisions_csv
    from ..store import open_version
    from .rendering.review import print_decided

    decided = read_decisions_csv(decisions)
    opened = open_version(version)
    summary = decide_version(opened, decided, name)
    print_or_write(summary, json, lambda: print_decided(summary, opened.store))
