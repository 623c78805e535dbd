// The side bar: decision, status, split, class and ranges of numbers; and the line that says what is chosen.
"use strict";

locloc.Filters = class {
  constructor(element, chips) {
    const { el, rows, selection } = locloc;
    this.chips = chips;
    this.refreshers = [];
    const decisions = ["undecided", "accepted", "rejected"];
    const parts = [
      this.checks("Decision", decisions, (name) => name, selection.decisions, (row) => locloc.decisions.of(row)),
      this.checks("Status", this.present(rows.status), (code) => rows.statuses[code], selection.statuses, (row) => rows.status[row]),
      this.checks("Split", this.present(rows.split), (code) => rows.splits[code] || "none", selection.splits, (row) => rows.split[row]),
      this.checks("Class", this.present(rows.class), (code) => rows.classes[code] || "none", selection.classes, (row) => rows.class[row]),
      ...rows.metrics.filter((metric) => !metric.isPart).map((metric) => this.range(metric)),
    ];
    const more = rows.metrics.filter((metric) => metric.isPart).map((metric) => this.range(metric));
    if (more.length) parts.push(el("details", {}, el("summary", { text: `${more.length} more numbers` }), ...more));
    element.append(...parts.filter(Boolean));
    this.clear = el("button", { class: "link", text: "Clear all", onclick: () => locloc.clearFilters() });
    locloc.on("selection", () => this.refresh());
    // Counts by decision come first among the refreshers.
    locloc.on("decisions", locloc.onceAFrame(() => this.refreshers[0]()));
    this.refresh();
  }

  present(column) {
    return [...new Set(column)].sort((a, b) => a - b);
  }

  refresh() {
    this.refreshers.forEach((refresh) => refresh());
    this.refreshChips();
  }

  // Boxes to tick, with the number of rows of each value; many values have a field to search them.
  checks(title, values, name, chosen, valueOf) {
    const { el } = locloc;
    if (values.length < 2) return null;
    const boxes = values.map((value) => {
      const toggle = (event) => {
        if (event.target.checked) chosen.add(value);
        else chosen.delete(value);
        locloc.select();
      };
      const box = el("input", { type: "checkbox", onchange: toggle });
      const count = el("span", { class: "count" });
      const label = el("label", { class: "check" }, box, el("bdi", { text: locloc.shown(name(value)) }), count);
      return { value, box, count, label, text: name(value).toLowerCase() };
    });
    this.refreshers.push(() => {
      const counts = new Map();
      for (let row = 0; row < locloc.rows.count; row++) counts.set(valueOf(row), (counts.get(valueOf(row)) || 0) + 1);
      for (const one of boxes) {
        one.box.checked = chosen.has(one.value);
        one.count.textContent = locloc.count(counts.get(one.value) || 0);
      }
    });
    const find = (event) => {
      const wanted = event.target.value.toLowerCase();
      for (const one of boxes) one.label.hidden = !one.text.includes(wanted);
    };
    const search = values.length > 12 ? el("input", { type: "search", placeholder: `Find among ${values.length}`, "aria-label": `Find a ${title.toLowerCase()}`, oninput: find }) : null;
    return el("fieldset", {}, el("legend", { text: title }), search, el("div", { class: "checks" }, ...boxes.map((one) => one.label)));
  }

  // A histogram with the lowest and the highest value below it.
  range(metric) {
    const { el, selection } = locloc;
    const steps = 1000;
    const histogram = new locloc.Histogram(metric, 36);
    const value = (input) => metric.low + ((metric.high - metric.low) * input.value) / steps;
    const shown = el("output", { class: "muted" });
    const change = locloc.onceAFrame(() => {
      if (+low.value > +high.value) [low.value, high.value] = [high.value, low.value];
      if (+low.value === 0 && +high.value === steps) selection.ranges.delete(metric.key);
      else selection.ranges.set(metric.key, [+low.value ? value(low) : -Infinity, +high.value < steps ? value(high) : Infinity]);
      locloc.select();
    });
    const slider = (end, at) => el("input", { type: "range", min: 0, max: steps, value: at, "aria-label": `${metric.label}: ${end}`, oninput: change });
    const low = slider("from", 0);
    const high = slider("to", steps);
    this.refreshers.push(() => {
      const range = selection.ranges.get(metric.key);
      const place = (edge, missing) => (range && Number.isFinite(edge) ? Math.round((steps * (edge - metric.low)) / (metric.high - metric.low)) : missing);
      low.value = place(range && range[0], 0);
      high.value = place(range && range[1], steps);
      shown.textContent = range ? `${locloc.figureOf(value(low))} to ${locloc.figureOf(value(high))}` : "";
      histogram.choose(locloc.isFiltered() ? selection.order : null);
    });
    const legend = el("legend", { title: metric.about }, document.createTextNode(metric.label), shown);
    return el("fieldset", { class: "range" }, legend, histogram.element, el("div", { class: "sliders" }, low, high));
  }

  refreshChips() {
    const { el, rows, selection } = locloc;
    const chips = [];
    const chip = (text, remove) => {
      const take = () => {
        remove();
        locloc.select();
      };
      chips.push(el("button", { class: "chip", onclick: take, "aria-label": `Remove the filter ${text}` }, el("bdi", { text: locloc.shown(text) }), el("span", { "aria-hidden": "true", text: " ×" })));
    };
    if (selection.text) chip(`id has “${selection.text}”`, () => (selection.text = ""));
    if (selection.only) chip(`${locloc.plural(selection.only.size, "image")} of a rectangle`, () => (selection.only = null));
    for (const name of selection.decisions) chip(name, () => selection.decisions.delete(name));
    const sets = [[selection.statuses, (code) => rows.statuses[code]], [selection.splits, (code) => rows.splits[code] || "no split"], [selection.classes, (code) => rows.classes[code] || "no class"]];
    for (const [set, name] of sets) for (const code of set) chip(name(code), () => set.delete(code));
    for (const key of selection.ranges.keys()) chip(rows.metric(key).label, () => selection.ranges.delete(key));
    this.chips.replaceChildren(...chips, ...(chips.length ? [this.clear] : []));
  }
};
