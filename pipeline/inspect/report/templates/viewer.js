// One image large: every layer, its numbers, its neighbours, and the decision about it.
"use strict";

locloc.LAYERS = [
  ["mask", "Outline", "1"], ["dim", "Cut out", "2"], ["box", "Box", "3"],
  ["attention", "Attention", "4"], ["trimap", "Trimap", "5"], ["truth", "Truth", "6"],
];

locloc.Viewer = class {
  constructor(dialog) {
    const { el, rows } = locloc;
    this.dialog = dialog;
    this.figures = rows.versions.map((_, version) => new locloc.Figure(version, true));
    this.figures[0].onTile = () => this.links.replaceChildren(); // the original cannot be reached, or not be shown
    this.title = el("h2", { id: "viewer-title" }, (this.name = el("bdi")));
    this.position = el("p", { class: "muted" });
    this.facts = el("dl", { class: "facts" });
    this.parts = el("dl", { class: "facts" });
    const parts = el("details", { hidden: !rows.metrics.some((metric) => metric.isPart) }, el("summary", { text: "More numbers" }), this.parts);
    this.reason = el("p", { class: "reason" });
    this.links = el("p", { class: "links" });
    this.near = el("div", { class: "near" });
    this.note = el("textarea", { rows: 2, placeholder: "Note (N)", "aria-label": "Note", onchange: () => this.setNote() });
    this.judge = ["accepted", "rejected", "undecided"].map((decision) => {
      const [label, key] = { accepted: ["Accept", "A"], rejected: ["Reject", "R"], undecided: ["Undecided", "U"] }[decision];
      const set = () => locloc.judge(decision);
      return el("button", { class: `judge ${decision}`, onclick: set, "aria-pressed": "false" }, `${label} `, el("kbd", { text: key }));
    });
    this.toggles = locloc.LAYERS.filter(([name]) => name !== "truth" || rows.truth.length).map(([name, label, key]) => {
      const toggle = () => locloc.setLayer(name, !locloc.layers[name]);
      return el("button", { class: "toggle", "data-layer": name, onclick: toggle }, `${label} `, el("kbd", { text: key }));
    });
    const go = (step) => () => locloc.focusOn(locloc.selection.focus + step);
    const stages = this.figures.map((figure, n) => {
      const tag = rows.compares ? el("p", { class: "tag", text: rows.versions[n].tag }) : null;
      return el("div", { class: "stage" }, figure.element, tag);
    });
    const bar = el("div", { class: "bar" },
      el("button", { class: "quiet", text: "‹", "aria-label": "Previous image", onclick: go(-1) }),
      el("button", { class: "quiet", text: "›", "aria-label": "Next image", onclick: go(1) }),
      this.position, ...this.toggles,
      el("button", { class: "quiet close", text: "Close", onclick: () => this.close() }));
    const advance = el("label", { class: "inline advance" }, el("input", { id: "advance", type: "checkbox", checked: true }), "go on to the next after A and R");
    const side = el("aside", {}, this.title, el("div", { class: "judging" }, ...this.judge, advance), this.note, this.reason, this.facts, this.links, this.near, parts);
    dialog.append(bar, el("div", { class: "stages" }, ...stages), side);
    dialog.addEventListener("close", () => locloc.byId("scroller").focus());
    locloc.on("focus", () => this.isOpen() && this.fill());
    locloc.on("selection", () => this.isOpen() && this.fill());
    locloc.on("decisions", () => this.isOpen() && this.fillDecision());
    locloc.on("layers", () => this.fillLayers());
    locloc.on("block", () => this.isOpen() && this.figures.forEach((figure) => figure.draw()));
    this.fillLayers();
  }

  isOpen() {
    return this.dialog.open;
  }

  open() {
    if (locloc.focusedRow() === null) return;
    if (!this.isOpen()) {
      this.dialog.showModal();
      this.dialog.focus();
    }
    this.fill();
  }

  close() {
    this.setNote();
    this.dialog.close();
  }

  fill() {
    const { rows, selection, el } = locloc;
    const row = locloc.focusedRow();
    if (row === null) return this.close();
    if (this.row !== undefined && this.row !== row) this.setNote();
    this.row = row;
    this.figures.forEach((figure) => {
      figure.element.classList.remove("is-tile");
      figure.show(row);
    });
    this.name.textContent = locloc.shown(rows.ids[row]);
    this.position.textContent = `${locloc.count(selection.focus + 1)} of ${locloc.count(selection.order.length)}`;
    const facts = [["Class", locloc.shown(rows.className(row))], ["Split", rows.splits[rows.split[row]]], ["Status", rows.statuses[rows.status[row]]], ["Size", rows.size(row).join(" × ")]];
    const plain = facts.filter(([, text]) => text).map(([label, text]) => this.fact(label, el("bdi", { text })));
    const [main, parts] = [false, true].map((isPart) => rows.metrics.filter((metric) => metric.isPart === isPart).map((metric) => this.metricFact(metric, row)));
    this.facts.replaceChildren(...plain, ...main);
    this.parts.replaceChildren(...parts);
    this.reason.textContent = [rows.errors.get(row), rows.imageNotes.get(row)].filter(Boolean).map(locloc.shown).join("; ");
    const original = locloc.live ? null : rows.original(row);
    this.links.replaceChildren(...(original ? [el("a", { href: original, target: "_blank", rel: "noreferrer", text: "Open the original" })] : []));
    this.fillNear(row);
    this.fillDecision();
    this.preload();
  }

  fact(label, value) {
    return locloc.el("div", {}, locloc.el("dt", { text: label }), locloc.el("dd", {}, value));
  }

  // The number, and where it lies among all.
  metricFact(metric, row) {
    const { el } = locloc;
    const value = metric.values[row];
    const share = Number.isFinite(value) ? (value - metric.low) / (metric.high - metric.low) : 0;
    const meter = el("i", { class: "meter" }, el("i"));
    meter.firstChild.style.width = `${100 * share}%`;
    const fact = this.fact(metric.label, el("span", { text: locloc.figureOf(value) }));
    fact.title = metric.about;
    fact.append(meter);
    return fact;
  }

  fillNear(row) {
    const { rows, selection, el } = locloc;
    const strip = (title, found) => {
      if (!found.length) return [];
      const tiles = found.map((near) => {
        const figure = new locloc.Figure(0);
        figure.show(near);
        const open = () => locloc.focusOnRow(near);
        return el("button", { class: "near-tile", onclick: open, title: locloc.shown(rows.ids[near]), "aria-label": `Go to ${locloc.shown(rows.ids[near])}` }, figure.element);
      });
      return [el("h3", { text: title }), el("div", { class: "strip" }, ...tiles)];
    };
    const place = selection.focus;
    const order = [-3, -2, -1, 1, 2, 3].map((step) => selection.order[place + step]).filter((near) => near !== undefined);
    const metric = rows.metric(selection.sort);
    const alike = rows.neighbours ? Array.from(rows.neighbours.subarray(6 * row, 6 * row + 6)) : [];
    this.near.replaceChildren(...strip(`Next to it by ${metric ? locloc.inText(metric.label) : selection.sort}`, order), ...strip("Looks alike", alike));
  }

  fillDecision() {
    const row = locloc.focusedRow();
    if (row === null) return;
    const decision = locloc.decisions.of(row);
    this.dialog.dataset.decision = decision;
    for (const button of this.judge) {
      button.setAttribute("aria-pressed", button.classList.contains(decision));
      button.disabled = !locloc.rows.hasMask[row];
    }
    this.note.disabled = !locloc.rows.hasMask[row];
    if (document.activeElement !== this.note) this.note.value = locloc.decisions.note(row);
  }

  setNote() {
    if (this.row === undefined || this.note.disabled) return;
    const note = this.note.value.trim();
    if (note !== locloc.decisions.note(this.row)) locloc.decisions.set([this.row], { note });
  }

  fillLayers() {
    for (const button of this.toggles) button.setAttribute("aria-pressed", locloc.layers[button.dataset.layer]);
    if (this.row !== undefined) this.figures.forEach((figure) => figure.draw());
  }

  // The next image is there when it is asked for.
  preload() {
    const next = locloc.selection.order[locloc.selection.focus + 1];
    if (next === undefined) return;
    locloc.drawing(next);
    const source = locloc.rows.original(next) || locloc.rows.tile(next);
    if (source) new Image().src = source;
  }
};

// Decides about the focused row, and goes on to the next.
locloc.judge = (decision) => {
  const row = locloc.focusedRow();
  if (row === null) return;
  if (locloc.viewer.isOpen()) locloc.viewer.setNote();
  locloc.decisions.set([row], { decision });
  if (decision !== "undecided" && locloc.byId("advance").checked) locloc.focusOn(locloc.selection.focus + 1);
};
