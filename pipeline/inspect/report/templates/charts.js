// Charts: histograms, a scatter plot that selects rows, lines. Colours come from the stylesheet.
"use strict";

locloc.BINS = 40;

locloc.binned = (metric, rows) => {
  const bins = new Float64Array(locloc.BINS);
  const scale = locloc.BINS / (metric.high - metric.low);
  for (const row of rows) {
    const value = metric.values[row];
    if (Number.isFinite(value)) bins[Math.min(Math.floor((value - metric.low) * scale), locloc.BINS - 1)]++;
  }
  return bins;
};

locloc.everyRow = () => (locloc.allRows ||= Uint32Array.from({ length: locloc.rows.count }, (_, row) => row));

// Bars of all rows, and in front those of the rows that are selected.
locloc.Histogram = class {
  constructor(metric, height = 56) {
    const { svg } = locloc;
    this.metric = metric;
    this.height = height;
    this.all = svg("path", { class: "bars all" });
    this.chosen = svg("path", { class: "bars chosen" });
    const view = `0 0 ${locloc.BINS} ${height}`;
    const drawn = { class: "histogram", viewBox: view, preserveAspectRatio: "none", role: "img" };
    this.element = svg("svg", { ...drawn, "aria-label": `Histogram: ${metric.label}` }, this.all, this.chosen);
    this.bins = locloc.binned(metric, locloc.everyRow());
    this.top = Math.max(1, ...this.bins);
    this.all.setAttribute("d", this.path(this.bins));
  }

  path(bins) {
    const bars = [...bins].map((count, n) => {
      const high = count ? Math.max(1, (this.height * count) / this.top) : 0;
      return high ? `M${n + 0.08} ${this.height}v${-high}h.84v${high}z` : "";
    });
    return bars.join("");
  }

  choose(rows) {
    this.chosen.setAttribute("d", rows ? this.path(locloc.binned(this.metric, rows)) : "");
    this.element.classList.toggle("has-chosen", Boolean(rows));
  }
};

// A line of points [x, y] in 0..1 with axes; `lines`: [{label, kind, points}].
locloc.lineChart = (lines, { x, y, top = 1 }) => {
  const { svg } = locloc;
  const [width, height, left, bottom] = [420, 220, 44, 34];
  const placeX = (share) => left + share * (width - left - 10);
  const placeY = (value) => 8 + (1 - value / top) * (height - bottom - 8);
  const chart = svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${y} by ${x}` });
  for (let n = 0; n <= 4; n++) {
    const value = (top * n) / 4;
    chart.append(
      svg("line", { class: "grid", x1: left, x2: width - 10, y1: placeY(value), y2: placeY(value) }),
      svg("text", { class: "tick", x: left - 6, y: placeY(value) + 4, "text-anchor": "end", text: value.toFixed(2) }),
      svg("text", { class: "tick", x: placeX(n / 4), y: height - 18, "text-anchor": "middle", text: `${25 * n} %` }),
    );
  }
  chart.append(svg("text", { class: "tick", x: (left + width) / 2, y: height - 3, "text-anchor": "middle", text: x }));
  for (const line of lines) {
    const d = line.points.map(([px, py], n) => `${n ? "L" : "M"}${placeX(px).toFixed(1)} ${placeY(py).toFixed(1)}`);
    chart.append(svg("path", { class: `line ${line.kind}`, d: d.join("") }));
  }
  const legend = lines.map((line) =>
    locloc.el("span", { class: `key ${line.kind}` }, locloc.el("i"), document.createTextNode(line.label)),
  );
  return locloc.el("figure", { class: "plot" }, chart, locloc.el("figcaption", {}, locloc.el("b", { text: y }), ...legend));
};

// Two metrics crossed: drag a rectangle to select its rows.
locloc.Scatter = class {
  constructor(onSelect) {
    const { el, rows } = locloc;
    this.onSelect = onSelect;
    this.canvas = el("canvas", { class: "scatter", "aria-label": "Scatter plot; drag a rectangle to select images" });
    this.box = el("div", { class: "rubber", hidden: true });
    const metrics = rows.metrics;
    this.x = metrics[Math.min(1, metrics.length - 1)];
    this.y = metrics[0];
    const chooser = (axis) => {
      const options = metrics.map((metric) => el("option", { value: metric.key, text: metric.label, selected: metric === this[axis] }));
      const change = (event) => {
        this[axis] = rows.metric(event.target.value);
        this.draw();
      };
      return el("label", { text: axis === "x" ? "across " : "up " }, el("select", { onchange: change }, ...options));
    };
    const plot = el("div", { class: "scatter-plot" }, this.canvas, this.box);
    this.element = el("div", {}, el("div", { class: "choosers" }, chooser("x"), chooser("y")), plot);
    this.listen(plot);
    new ResizeObserver(locloc.onceAFrame(() => this.draw())).observe(plot);
  }

  place(row) {
    const at = (metric, length) => ((metric.values[row] - metric.low) / (metric.high - metric.low)) * length;
    const { width, height } = this.canvas;
    return [this.pad + at(this.x, width - 2 * this.pad), height - this.pad - at(this.y, height - 2 * this.pad)];
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth) return;
    this.pad = 28 * ratio;
    Object.assign(this.canvas, { width: clientWidth * ratio, height: clientHeight * ratio });
    const context = this.canvas.getContext("2d");
    const style = getComputedStyle(this.canvas);
    const size = Math.max(2, 5.5 - Math.log10(locloc.rows.count)) * ratio;
    context.globalAlpha = locloc.rows.count > 3000 ? 0.35 : 0.6;
    context.fillStyle = style.color;
    for (let row = 0; row < locloc.rows.count; row++) {
      const [x, y] = this.place(row);
      if (x === x && y === y) context.fillRect(x - size / 2, y - size / 2, size, size);
    }
    context.globalAlpha = 1;
    context.fillStyle = style.getPropertyValue("--muted");
    context.font = `${12 * ratio}px system-ui, sans-serif`;
    const { width, height } = this.canvas;
    const text = (value) => String(+value.toPrecision(3));
    context.fillText(`${this.x.label} ${text(this.x.low)}`, this.pad, height - 8 * ratio);
    context.textAlign = "right";
    context.fillText(text(this.x.high), width - this.pad, height - 8 * ratio);
    context.textAlign = "left";
    context.fillText(`${this.y.label} ${text(this.y.high)}`, 6 * ratio, 16 * ratio);
    context.fillText(text(this.y.low), 6 * ratio, height - this.pad);
  }

  listen(plot) {
    let from = null;
    const at = (event) => {
      const { left, top } = this.canvas.getBoundingClientRect();
      return [event.clientX - left, event.clientY - top];
    };
    const edges = (to) => [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1])];
    plot.addEventListener("pointerdown", (event) => {
      from = at(event);
      plot.setPointerCapture(event.pointerId);
    });
    plot.addEventListener("pointermove", (event) => {
      if (!from) return;
      const [x0, y0, x1, y1] = edges(at(event));
      this.box.hidden = false;
      Object.assign(this.box.style, { left: `${x0}px`, top: `${y0}px`, width: `${x1 - x0}px`, height: `${y1 - y0}px` });
    });
    plot.addEventListener("pointerup", (event) => {
      if (!from) return;
      const rectangle = edges(at(event)).map((edge) => edge * (window.devicePixelRatio || 1));
      from = null;
      this.box.hidden = true;
      if (rectangle[2] - rectangle[0] < 4 || rectangle[3] - rectangle[1] < 4) return;
      const inside = new Set();
      for (let row = 0; row < locloc.rows.count; row++) {
        const [x, y] = this.place(row);
        if (x >= rectangle[0] && x <= rectangle[2] && y >= rectangle[1] && y <= rectangle[3]) inside.add(row);
      }
      this.onSelect(inside);
    });
  }
};
