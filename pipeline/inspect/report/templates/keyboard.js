// The keyboard, for everything. Keys do nothing while one writes in a field.
"use strict";

locloc.KEYS = [
  ["← → ↑ ↓", "move; Home, End, Page Up, Page Down too"],
  ["Enter, space", "one image large, and back; Escape goes back too"],
  ["A  R  U", "accept, reject, undecided"],
  ["Z", "undo"],
  ["N", "write a note; Escape ends it"],
  ["1 … 6", "outline, cut out, box, attention, trimap, ground truth"],
  ["/", "find in ids"],
  ["S", "sort by the next number;  Shift S  turns the order"],
  ["G  O", "gallery, overview"],
  ["E", "export decisions.csv"],
  ["?", "these keys"],
];

locloc.onKey = (event) => {
  const { viewer, gallery, selection } = locloc;
  const field = event.target.closest("input:not([type=checkbox]):not([type=range]), textarea, select");
  if (field) {
    if (event.key !== "Escape") return;
    field.blur();
    event.preventDefault();
    event.stopPropagation();
    if (!viewer.isOpen()) locloc.byId("scroller").focus();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const shown = document.body.dataset.view;
  const move = (step) => locloc.focusOn(selection.focus + step);
  const line = viewer.isOpen() ? 1 : gallery.columns;
  const page = viewer.isOpen() ? 10 : gallery.columns * gallery.linesSeen();
  const moves = {
    ArrowLeft: () => move(-1), ArrowRight: () => move(1), ArrowUp: () => move(-line), ArrowDown: () => move(line),
    PageUp: () => move(-page), PageDown: () => move(page),
    Home: () => locloc.focusOn(0), End: () => locloc.focusOn(selection.order.length - 1),
    a: () => locloc.judge("accepted"), r: () => locloc.judge("rejected"), u: () => locloc.judge("undecided"),
    n: () => {
      viewer.open();
      viewer.note.focus();
    },
  };
  const anywhere = {
    z: () => {
      const rows = locloc.decisions.undo();
      if (rows && rows.length === 1) locloc.focusOnRow(rows[0]);
    },
    g: () => locloc.showView("gallery"),
    o: () => locloc.showView("overview"),
    e: () => locloc.decisions.save(),
    s: () => locloc.nextSort(),
    S: () => locloc.sortBy(selection.sort, !selection.descending),
    "?": () => locloc.byId("help").showModal(),
    "/": () => {
      if (viewer.isOpen()) viewer.close();
      locloc.showView("gallery");
      locloc.byId("find").focus();
    },
  };
  locloc.LAYERS.forEach(([name, , key]) => (anywhere[key] = () => locloc.setLayer(name, !locloc.layers[name])));
  if (locloc.byId("help").open) return;
  const onButton = event.target.closest("button, a, summary, input");
  let action = anywhere[event.key];
  if (shown === "gallery" || viewer.isOpen()) {
    action ||= moves[event.key] || moves[event.key.toLowerCase()];
    if ((event.key === "Enter" || event.key === " ") && !onButton) action = () => (viewer.isOpen() ? viewer.close() : viewer.open());
    if (onButton && onButton.type === "range" && event.key.startsWith("Arrow")) return;
  }
  if (!action) return;
  event.preventDefault();
  action();
};

locloc.nextSort = () => {
  const choose = locloc.byId("sort");
  const next = choose.options[(choose.selectedIndex + 1) % choose.options.length].value;
  const metric = locloc.rows.metric(next);
  locloc.sortBy(next, Boolean(metric && metric.worst === "high"));
  locloc.say(`Sorted by ${choose.selectedOptions[0].textContent.toLowerCase()}`);
};
