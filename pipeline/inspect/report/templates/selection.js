// Which rows are shown and in which order: filters, sorting, and the row that has the focus.
"use strict";

locloc.selection = {
  text: "",
  classes: new Set(), // numbers; empty: all
  splits: new Set(),
  statuses: new Set(),
  decisions: new Set(), // "accepted", "rejected", "undecided"
  ranges: new Map(), // metric's key > [low, high]
  only: null, // Set of rows, of a rectangle in the scatter plot
  sort: "id",
  descending: false,
  order: new Uint32Array(0),
  focus: -1, // position in `order`
};

locloc.isFiltered = () => {
  const s = locloc.selection;
  const sets = [s.classes, s.splits, s.statuses, s.decisions];
  return Boolean(s.text || sets.some((set) => set.size) || s.ranges.size || s.only);
};

locloc.clearFilters = () => {
  const s = locloc.selection;
  s.text = "";
  for (const set of [s.classes, s.splits, s.statuses, s.decisions, s.ranges]) set.clear();
  s.only = null;
  locloc.select();
};

locloc.passes = (row) => {
  const s = locloc.selection;
  const rows = locloc.rows;
  if (s.only && !s.only.has(row)) return false;
  if (s.statuses.size && !s.statuses.has(rows.status[row])) return false;
  if (s.splits.size && !s.splits.has(rows.split[row])) return false;
  if (s.classes.size && !s.classes.has(rows.class[row])) return false;
  for (const [key, [low, high]] of s.ranges) {
    const value = rows.metric(key).values[row];
    if (!(value >= low && value <= high)) return false;
  }
  if (s.decisions.size && !s.decisions.has(locloc.decisions.of(row))) return false;
  return !s.text || rows.ids[row].toLowerCase().includes(s.text.toLowerCase());
};

// Filters and sorts. The focus stays on its row where that is still shown. Rows without a number come last.
locloc.select = () => {
  const s = locloc.selection;
  const rows = locloc.rows;
  const focused = s.order[s.focus];
  const chosen = [];
  for (let row = 0; row < rows.count; row++) if (locloc.passes(row)) chosen.push(row);
  const key = locloc.sortKey(s.sort);
  if (key) {
    const sign = s.descending ? -1 : 1;
    chosen.sort((a, b) => {
      const one = key(a);
      const other = key(b);
      const missing = Number.isNaN(one) - Number.isNaN(other);
      return missing || (one < other ? -sign : one > other ? sign : a - b);
    });
  } else if (s.descending) chosen.reverse();
  s.order = Uint32Array.from(chosen);
  s.focus = focused === undefined ? (chosen.length ? 0 : -1) : Math.max(s.order.indexOf(focused), chosen.length ? 0 : -1);
  locloc.emit("selection");
};

locloc.sortKey = (name) => {
  const rows = locloc.rows;
  if (name === "id") return null; // rows come in the order of their ids
  if (name === "class") return (row) => rows.class[row];
  if (name === "split") return (row) => rows.split[row];
  if (name === "status") return (row) => rows.status[row];
  if (name === "decision") return (row) => ["rejected", "accepted", "undecided"].indexOf(locloc.decisions.of(row));
  const values = rows.metric(name).values;
  return (row) => values[row];
};

locloc.sortBy = (name, descending) => {
  locloc.selection.sort = name;
  locloc.selection.descending = descending;
  locloc.select();
};

locloc.focusedRow = () => {
  const row = locloc.selection.order[locloc.selection.focus];
  return row === undefined ? null : row;
};

locloc.focusOn = (position) => {
  const s = locloc.selection;
  if (!s.order.length) return;
  s.focus = Math.min(Math.max(position, 0), s.order.length - 1);
  locloc.emit("focus");
};

locloc.focusOnRow = (row) => {
  const position = locloc.selection.order.indexOf(row);
  if (position < 0) {
    locloc.clearFilters();
    locloc.say("Filters were cleared to show that image");
    locloc.focusOn(locloc.selection.order.indexOf(row));
  } else locloc.focusOn(position);
};
