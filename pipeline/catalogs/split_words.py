"""The words of the field for training, validation and test images; lists and folders use the same ones."""

import re
from functools import lru_cache

SPLITS = ("", "train", "val", "test")
"""Names of the codes in column `split`; 0 = none given."""

SPLIT_CODES = {
    "": 0,
    # images that a model is fitted on; `trainval` is the union of VOC's two, which its test set goes with
    **dict.fromkeys(("train", "training", "trn", "trainval"), 1),
    # images that choose a model. `dev` (development) is a validation set where it stands beside train and test.
    # `eval` is one in the field's training code (--eval-split, eval_dataset); some speech corpora name their test set
    # so, beside `dev`: locloc warns where both are there. `minival` is COCO's small validation set.
    **dict.fromkeys(("val", "valid", "validation", "dev", "devel", "development", "eval", "evaluation", "minival"), 2),
    # images that only the last figures are computed on
    **dict.fromkeys(("test", "testing", "tst"), 3),
}
"""Every word for a split, in lower case, and its index into SPLITS."""

UNLABELED = frozenset({"unlabeled", "unlabelled", "unlabel", "unsup", "unsupervised", "nolabel", "no_label"})
"""Folders of images without label: neither a class nor a split."""

# `train_set`, `test-images`, `training data`, `val2017`: a word with what data sets add to it.
_ADDED = re.compile(r"[-_ .]?(?:dataset|set|split|data|images?|imgs?|(?:19|20)[0-9]{2})\Z")
_WORD = re.compile(r"[a-z]+")
# Parts of a data set that are none of the three; a class has such a name rarely.
_PART = re.compile(
    r"(?:cv|fold|part|split|shard|chunk|batch)[-_ ]?[0-9]+|hold[-_ ]?out|query|gallery|probe|distractors?|support|"
    r"labell?ed|sup|supervised"
)


def split_code(name: str) -> int | None:
    """Index into SPLITS of a split's name; None for any other text.

    Letter case and blanks around it do not matter, nor does one of the endings set, dataset, split, data, images, imgs
    or a year: `Train`, `training_set` and `train2017` are all `train`.
    """
    word = name.strip().lower()
    return SPLIT_CODES.get(word, SPLIT_CODES.get(_ADDED.sub("", word)) or None)


@lru_cache(4096)
def is_unlabeled(name: str) -> bool:
    """True for a folder's name that says its images have no label, with the same endings as a split's."""
    word = name.strip().lower()
    return word in UNLABELED or _ADDED.sub("", word) in UNLABELED


def looks_like_split(name: str) -> bool:
    """True for a split's name, for one that begins or ends with a word for it (`seg_train`), and for other parts of a
    data set (`fold1`, `holdout`, `labeled`): a warning's rule."""
    if _PART.fullmatch(name.strip().lower()):
        return True
    words = _WORD.findall(name.lower())
    return bool(split_code(name)) or any(SPLIT_CODES.get(word) for word in (*words[:1], *words[-1:]))
