// One image with what is known of it drawn on top: outline, box, truth, attention, trimap. Reused for other rows.
"use strict";

locloc.layers = { mask: true, dim: false, box: false, truth: true, attention: false, trimap: false };

locloc.setLayer = (name, on) => {
  locloc.layers[name] = on;
  locloc.emit("layers");
};

locloc.Figure = class {
  // version: 0, or 1 for the other one of a comparison. large: the original image where it can be reached.
  constructor(version = 0, large = false) {
    const { el, svg } = locloc;
    this.version = version;
    this.large = large;
    this.row = null;
    this.image = el("img", { alt: "", draggable: "false", decoding: "async" });
    this.attention = el("canvas", { class: "attention" });
    this.trimap = el("img", { class: "trimap", alt: "" });
    this.dim = svg("path", { class: "dim" });
    this.casing = svg("path", { class: "casing" });
    this.outline = svg("path", { class: "outline" });
    this.truth = svg("path", { class: "truth" });
    this.drawing = svg("svg", { preserveAspectRatio: "none" }, this.dim, this.casing, this.truth, this.outline);
    this.square = el("div", { class: "square" }, this.attention, this.trimap, this.drawing);
    this.boxes = el("div", { class: "boxes" });
    this.note = el("p", { class: "note" });
    this.frame = el("div", { class: "frame" }, this.image, this.square, this.boxes);
    this.element = el("div", { class: `figure version-${version}` }, this.frame, this.note);
    this.image.addEventListener("error", () => this.useTile());
    this.image.addEventListener("load", () => this.element.classList.remove("loading"));
  }

  show(row) {
    if (row !== this.row) {
      this.row = row;
      const [width, height] = locloc.rows.size(row);
      this.frame.style.setProperty("--ratio", width / height);
      this.frame.style.setProperty("--wide", `${Math.min(100, (100 * width) / height)}%`);
      this.frame.style.setProperty("--high", `${Math.min(100, (100 * height) / width)}%`);
      const tile = locloc.rows.tile(row);
      this.source = this.large ? locloc.rows.original(row) || tile : tile;
      this.element.classList.add("loading");
      this.setImage(this.source);
    }
    this.draw();
  }

  setImage(source) {
    this.element.classList.toggle("no-image", !source);
    if (source) this.image.src = source;
    else this.image.removeAttribute("src");
  }

  useTile() {
    const tile = locloc.rows.tile(this.row);
    if (this.source !== tile && tile) {
      this.source = tile;
      this.setImage(tile);
      this.element.classList.add("is-tile");
      if (this.onTile) this.onTile();
    } else this.setImage(null);
  }

  draw() {
    const { rows, layers } = locloc;
    const hasMask = this.version ? rows.otherHasMask[this.row] : rows.hasMask[this.row];
    this.note.textContent = hasMask ? "" : this.version ? "no mask" : `no mask: ${rows.statuses[rows.status[this.row]]}`;
    const found = locloc.drawing(this.row);
    const drawn = found ? found.drawings[this.version] : {};
    const px = rows.versions[this.version].maskPx;
    const [left, top, width, height] = drawn.w || [0, 0, 1, 1];
    Object.assign(this.square.style, {
      left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * width}%`, height: `${100 * height}%`,
    });
    this.drawing.setAttribute("viewBox", `0 0 ${px} ${px}`);
    const outline = layers.mask && drawn.o ? drawn.o : "";
    this.outline.setAttribute("d", outline);
    this.casing.setAttribute("d", outline);
    this.dim.setAttribute("d", layers.dim && drawn.o !== undefined ? `M0 0h${px}v${px}h-${px}z${drawn.o}` : "");
    const truth = layers.truth && found && found.truth;
    this.truth.setAttribute("d", truth && truth.o ? truth.o : "");
    this.drawBoxes(layers.box && drawn.b ? [drawn.b] : [], truth && (layers.box || !truth.o) ? truth.b : []);
    this.drawAttention(layers.attention ? drawn.a : null);
    this.trimap.hidden = !(layers.trimap && drawn.t);
    if (!this.trimap.hidden) this.trimap.src = `data:image/png;base64,${drawn.t}`;
  }

  drawBoxes(boxes, truths) {
    const place = (kind) => ([left, top, width, height]) => {
      const style = `left:${100 * left}%;top:${100 * top}%;width:${100 * width}%;height:${100 * height}%`;
      const box = locloc.el("div", { class: `box ${kind}` });
      box.style.cssText = style;
      return box;
    };
    if (!boxes.length && !truths.length && !this.boxes.childElementCount) return;
    this.boxes.replaceChildren(...boxes.map(place("of-mask")), ...truths.map(place("of-truth")));
  }

  drawAttention(map) {
    this.attention.hidden = !map;
    if (!map) return;
    const [width, height, base64] = map;
    const values = locloc.unpack({ type: "u1", base64 });
    Object.assign(this.attention, { width, height });
    const context = this.attention.getContext("2d");
    const pixels = context.createImageData(width, height);
    values.forEach((value, n) => pixels.data.set([...locloc.heat(value / 255), 255], 4 * n));
    context.putImageData(pixels, 0, 0);
  }
};

// Dark violet, red, orange, pale yellow: its lightness rises evenly.
locloc.heat = (share) => {
  const stops = [[0, 0, 4], [51, 10, 95], [120, 28, 109], [187, 55, 84], [237, 105, 37], [252, 180, 24], [252, 255, 164]];
  const place = share * (stops.length - 1);
  const n = Math.min(Math.floor(place), stops.length - 2);
  return stops[n].map((value, channel) => Math.round(value + (place - n) * (stops[n + 1][channel] - value)));
};
