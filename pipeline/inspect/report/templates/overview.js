// The first view: what the version holds, how its numbers are spread, where it is bad, and how it was made.
"use strict";

locloc.Overview = class {
  constructor(element) {
    this.element = element;
    const { rows } = locloc;
    const parts = [this.summary(), rows.compares ? null : this.statuses(), this.histograms(), this.crossing()];
    if (rows.metric("true_iou")) parts.push(this.riskCoverage());
    parts.push(this.table("By class", "class", rows.classes), this.table("By split", "split", rows.splits));
    parts.push(...rows.versions.map((version) => this.provenance(version)));
    element.replaceChildren(...parts.filter(Boolean));
    locloc.on("decisions", locloc.onceAFrame(() => this.refresh()));
    this.refresh();
  }

  card(title, about, ...children) {
    const { el } = locloc;
    const head = el("header", {}, el("h2", { text: title }), about ? el("p", { class: "muted", text: about }) : null);
    return el("section", { class: "card" }, head, ...children);
  }

  summary() {
    const { el, rows } = locloc;
    const part = rows.count < rows.of ? `${locloc.count(rows.count)} of ${locloc.plural(rows.of, "image")}, drawn evenly` : locloc.plural(rows.count, "image");
    const name = rows.compares ? rows.versions.map((version) => version.short).join(" beside ") : rows.versions[0].short;
    this.judged = el("p", { class: "muted" });
    const start = el("button", { class: "primary", text: "Look at the worst first", onclick: () => locloc.startReview() });
    const card = this.card(name, part, this.judged, el("p", {}, start));
    card.classList.add("hero");
    for (const line of rows.truth) card.append(el("p", { class: "muted small", text: line }));
    return card;
  }

  refresh() {
    const counts = locloc.decisions.counts();
    const judged = counts.accepted + counts.rejected;
    const all = judged + counts.undecided;
    this.judged.textContent = `${locloc.count(judged)} of ${locloc.plural(all, "mask")} judged: ${locloc.count(counts.accepted)} accepted, ${locloc.count(counts.rejected)} rejected.`;
  }

  statuses() {
    const { el, rows } = locloc;
    const counts = rows.statuses.map((_, code) => rows.status.reduce((sum, status) => sum + (status === code), 0));
    const bar = el("div", { class: "stacked", "aria-hidden": "true" });
    const list = el("ul", { class: "legend" });
    rows.statuses.forEach((label, code) => {
      if (!counts[code]) return;
      const part = el("i", { class: `status-${label}` });
      part.style.flexGrow = counts[code];
      bar.append(part);
      const show = () => locloc.showOnly(() => locloc.selection.statuses.add(code));
      const text = ` ${label} ${locloc.count(counts[code])} (${locloc.share(counts[code], rows.count)})`;
      list.append(el("li", {}, el("button", { class: "link", onclick: show }, el("i", { class: `status-${label}` }), text)));
    });
    return this.card("Status", "What became of each image.", bar, list);
  }

  histograms() {
    const { el, rows } = locloc;
    const plot = (metric) => {
      const known = Array.from(metric.values).filter(Number.isFinite).sort((a, b) => a - b);
      const at = (share) => locloc.figureOf(known[Math.min(known.length - 1, Math.floor(share * known.length))]);
      const first = metric.worst === "high";
      const show = () => {
        locloc.clearFilters();
        locloc.sortBy(metric.key, first);
        locloc.showView("gallery");
      };
      return el(
        "figure",
        { class: "spread" },
        el("figcaption", {}, el("b", { text: metric.label }), el("span", { class: "muted", text: metric.about })),
        new locloc.Histogram(metric, 64).element,
        el("div", { class: "scale" }, el("span", { text: String(+metric.low.toPrecision(3)) }), el("span", { text: String(+metric.high.toPrecision(3)) })),
        el("p", { class: "muted", text: `5 % below ${at(0.05)}, median ${at(0.5)}, 5 % above ${at(0.95)}` }),
        el("button", { class: "link", text: `Gallery by ${locloc.inText(metric.label)}, ${first ? "highest" : "lowest"} first`, onclick: show }),
      );
    };
    const [main, parts] = [false, true].map((isPart) => rows.metrics.filter((metric) => metric.isPart === isPart).map(plot));
    const more = parts.length ? el("details", {}, el("summary", { text: `${parts.length} more` }), el("div", { class: "spreads" }, ...parts)) : null;
    return this.card("How the numbers are spread", null, el("div", { class: "spreads" }, ...main), more);
  }

  crossing() {
    if (locloc.rows.metrics.length < 2) return null;
    const select = (rows) => {
      if (!rows.size) return locloc.say("No image in that rectangle");
      locloc.showOnly(() => (locloc.selection.only = rows));
    };
    const card = this.card("Cross two numbers", "Drag a rectangle: its images are shown in the gallery.", new locloc.Scatter(select).element);
    if (!locloc.rows.metric("true_iou")) card.classList.add("wide"); // nothing stands beside it
    return card;
  }

  // Sorted by a number, the best first: how bad are the images that are kept, when the rest is rejected?
  riskCoverage() {
    const { el, rows } = locloc;
    const truth = rows.metric("true_iou").values;
    const others = rows.metrics.filter((metric) => metric.key !== "true_iou" && metric.worst).sort((a, b) => (a.worst === "high") - (b.worst === "high"));
    const holder = el("div", {});
    const draw = (key) => {
      const metric = rows.metric(key);
      const known = locloc.everyRow().filter((row) => Number.isFinite(truth[row]) && Number.isFinite(metric.values[row]));
      const sign = metric.worst === "low" ? -1 : 1;
      const best = Array.from(known).sort((a, b) => sign * (metric.values[a] - metric.values[b]));
      const risk = [];
      const wrong = [];
      let [lost, bad] = [0, 0];
      best.forEach((row, n) => {
        lost += 1 - truth[row];
        bad += truth[row] < 0.5;
        if ((n + 1) % Math.ceil(best.length / 200) === 0 || n + 1 === best.length) {
          risk.push([(n + 1) / best.length, lost / (n + 1)]);
          wrong.push([(n + 1) / best.length, bad / (n + 1)]);
        }
      });
      const top = Math.max(0.05, ...risk.map(([, y]) => y), ...wrong.map(([, y]) => y)) * 1.1;
      const lines = [
        { label: "mean 1 − IoU", kind: "first", points: risk },
        { label: "share below IoU .5", kind: "second", points: wrong },
      ];
      const area = risk.reduce((sum, [, y]) => sum + y, 0) / Math.max(1, risk.length);
      holder.replaceChildren(
        locloc.lineChart(lines, { x: `share kept, the best by ${locloc.inText(metric.label)} first`, y: "Risk", top }),
        el("p", { class: "muted", text: `Of ${locloc.plural(best.length, "image")} with ground truth; area under mean 1 − IoU: ${area.toFixed(4)}.` }),
      );
    };
    if (!others.length) return null;
    const options = others.map((metric) => el("option", { value: metric.key, text: metric.label }));
    const choose = el("select", { onchange: (event) => draw(event.target.value) }, ...options);
    draw(others[0].key);
    return this.card("Risk and coverage", "What rejecting the lowest would gain.", el("label", { text: "Order by " }, choose), holder);
  }

  table(title, column, names) {
    const { el, rows } = locloc;
    const groups = new Map();
    for (let row = 0; row < rows.count; row++) {
      const key = rows[column][row];
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(row);
    }
    if (groups.size < 2) return null;
    const metrics = rows.metrics.filter((metric) => !metric.isPart).slice(0, 6);
    const median = (metric, of) => {
      const known = of.map((row) => metric.values[row]).filter(Number.isFinite).sort((a, b) => a - b);
      return known.length ? known[Math.floor(known.length / 2)] : NaN;
    };
    const lines = [...groups].map(([key, of]) => ({
      key, name: names[key] || "none", count: of.length,
      masks: of.filter((row) => rows.hasMask[row]).length / of.length,
      medians: metrics.map((metric) => median(metric, of)),
    }));
    const body = el("tbody");
    let shown = 20;
    const more = el("button", { class: "link", onclick: () => ((shown = Infinity), fill()) });
    const fill = () => {
      body.replaceChildren(...lines.slice(0, shown).map((line) => {
        const show = () => locloc.showOnly(() => locloc.selection[column === "class" ? "classes" : "splits"].add(line.key));
        const name = el("button", { class: "link", onclick: show }, el("bdi", { text: locloc.shown(line.name) }));
        const cells = [locloc.count(line.count), locloc.share(line.masks, 1), ...line.medians.map(locloc.figureOf)];
        return el("tr", {}, el("th", { scope: "row" }, name), ...cells.map((text) => el("td", { text })));
      }));
      more.hidden = lines.length <= shown;
      more.textContent = `Show all ${locloc.count(lines.length)}`;
    };
    const sort = (value, falling) => () => {
      lines.sort((a, b) => {
        const [one, other] = falling ? [value(b), value(a)] : [value(a), value(b)];
        return one < other ? -1 : one > other ? 1 : 0;
      });
      fill();
    };
    const heading = (label, value, falling = false) =>
      el("th", { scope: "col" }, el("button", { class: "link", text: label, onclick: sort(value, falling) }));
    const headings = [
      heading(column, (line) => line.name.toLowerCase()), heading("images", (line) => line.count, true), heading("with mask", (line) => line.masks),
      ...metrics.map((metric, n) => heading(locloc.inText(metric.label), (line) => line.medians[n], metric.worst === "high")),
    ];
    sort((line) => line.count, true)();
    const table = el("table", {}, el("thead", {}, el("tr", {}, ...headings)), body);
    return this.card(title, "Medians; a heading sorts.", el("div", { class: "scrolls" }, table), more);
  }

  provenance(version) {
    const { el } = locloc;
    const details = (title, text) => el("details", {}, el("summary", { text: title }), el("pre", { text }));
    const title = locloc.rows.compares ? `How ${version.tag} was made` : "How it was made";
    return this.card(title, `Recipe ${version.recipeName}.`, details("Recipe in full", version.recipe), details("Provenance in full", version.provenance));
  }
};

locloc.showOnly = (choose) => {
  locloc.clearFilters();
  choose();
  locloc.select();
  locloc.showView("gallery");
};

// The first metric that has a bad end, its worst first, and the first image large.
locloc.startReview = () => {
  const metric = locloc.rows.metrics.find((one) => one.worst);
  locloc.clearFilters();
  if (metric) locloc.sortBy(metric.key, metric.worst === "high");
  locloc.showView("gallery");
  locloc.focusOn(0);
};
