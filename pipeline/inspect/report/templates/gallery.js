// The gallery: as many cells as are seen, moved and filled anew while one scrolls, however many rows there are.
"use strict";

locloc.SIZES = { small: 96, medium: 140, large: 220 };

locloc.Gallery = class {
  constructor(scroller) {
    const { el } = locloc;
    this.scroller = scroller;
    this.canvas = el("div", { class: "canvas" });
    this.empty = el("p", { class: "empty", hidden: true });
    scroller.append(this.canvas, this.empty);
    this.cells = new Map(); // position > cell
    this.free = [];
    this.size = "medium";
    const update = locloc.onceAFrame(() => this.update());
    scroller.addEventListener("scroll", update, { passive: true });
    new ResizeObserver(locloc.onceAFrame(() => this.measure())).observe(scroller);
    locloc.on("selection", () => this.renew());
    locloc.on("focus", () => this.reveal());
    locloc.on("decisions", () => this.eachCell((cell) => this.fillDecision(cell)));
    locloc.on("layers", () => this.eachCell((cell) => cell.figures.forEach((figure) => figure.draw())));
    locloc.on("block", (number) => this.eachCell((cell) => {
      if (Math.floor(cell.row / locloc.ROWS_A_BLOCK) === number) cell.figures.forEach((figure) => figure.draw());
    }));
    this.measure();
  }

  eachCell(work) {
    for (const cell of this.cells.values()) work(cell);
  }

  setSize(size) {
    this.size = size;
    this.measure();
    this.reveal();
  }

  measure() {
    const gap = 8;
    const width = this.scroller.clientWidth - 2 * gap;
    if (width <= 0) return;
    const tiles = locloc.rows.compares ? 2 : 1;
    const wanted = locloc.SIZES[this.size] * tiles + gap;
    this.columns = Math.max(locloc.rows.compares ? 1 : 2, Math.floor((width + gap) / wanted));
    this.cellWidth = Math.floor((width - gap * (this.columns - 1)) / this.columns);
    this.cellHeight = Math.round(this.cellWidth / tiles) + 26;
    this.stepX = this.cellWidth + gap;
    this.stepY = this.cellHeight + gap;
    this.gap = gap;
    this.eachCell((cell) => this.recycle(cell));
    this.cells.clear();
    this.layOut();
  }

  renew() {
    this.eachCell((cell) => this.recycle(cell));
    this.cells.clear();
    this.scroller.scrollTop = 0;
    this.layOut();
    this.reveal();
  }

  layOut() {
    const { order } = locloc.selection;
    const lines = Math.ceil(order.length / this.columns);
    this.canvas.style.height = `${lines * this.stepY + this.gap}px`;
    this.empty.hidden = order.length > 0;
    this.empty.textContent = "No image fits these filters.";
    this.update();
  }

  update() {
    if (!this.columns) return;
    const { order } = locloc.selection;
    const { scrollTop, clientHeight } = this.scroller;
    const first = Math.max(0, Math.floor(scrollTop / this.stepY) - 1) * this.columns;
    const last = Math.min(order.length, (Math.ceil((scrollTop + clientHeight) / this.stepY) + 1) * this.columns);
    for (const [position, cell] of this.cells) {
      if (position >= first && position < last) continue;
      this.recycle(cell);
      this.cells.delete(position);
    }
    for (let position = first; position < last; position++) if (!this.cells.has(position)) this.place(position);
    this.markFocus();
  }

  recycle(cell) {
    cell.element.hidden = true;
    this.free.push(cell);
  }

  newCell() {
    const { el } = locloc;
    const figures = locloc.rows.versions.map((_, version) => new locloc.Figure(version));
    const badge = el("span", { class: "badge" });
    const name = el("bdi", { class: "name" });
    const number = el("span", { class: "number" });
    const pictures = el("div", { class: "pictures" }, ...figures.map((figure) => figure.element), badge);
    const caption = el("div", { class: "caption" }, name, number);
    const cell = { figures, badge, name, number, row: null, position: -1 };
    const open = () => {
      locloc.focusOn(cell.position);
      locloc.viewer.open();
    };
    cell.element = el("div", { class: "cell", role: "option", onclick: open }, pictures, caption);
    this.canvas.append(cell.element);
    return cell;
  }

  place(position) {
    const cell = this.free.pop() || this.newCell();
    const row = locloc.selection.order[position];
    const line = Math.floor(position / this.columns);
    const column = position - line * this.columns;
    Object.assign(cell, { row, position });
    const { style } = cell.element;
    style.width = `${this.cellWidth}px`;
    style.height = `${this.cellHeight}px`;
    style.transform = `translate(${this.gap + column * this.stepX}px, ${this.gap + line * this.stepY}px)`;
    cell.element.id = `cell-${position}`;
    cell.element.hidden = false;
    cell.element.setAttribute("aria-setsize", locloc.selection.order.length);
    cell.element.setAttribute("aria-posinset", position + 1);
    cell.figures.forEach((figure) => figure.show(row));
    const id = locloc.rows.ids[row];
    const [, name] = /([^/]*)\/?$/.exec(id) || [id, id];
    cell.name.textContent = locloc.shown(name || id);
    cell.element.title = locloc.shown(id);
    cell.number.textContent = this.sorted(row);
    this.fillDecision(cell);
    this.cells.set(position, cell);
  }

  // The value that rows are sorted by, else the class.
  sorted(row) {
    const { rows, selection } = locloc;
    const metric = rows.metric(selection.sort);
    if (metric) return locloc.figureOf(metric.values[row]);
    if (selection.sort === "status") return rows.statuses[rows.status[row]];
    return locloc.shown(rows.className(row));
  }

  fillDecision(cell) {
    const decision = locloc.decisions.of(cell.row);
    cell.element.dataset.decision = decision;
    cell.badge.textContent = { accepted: "✓", rejected: "✕", undecided: "" }[decision];
    const noted = locloc.decisions.note(cell.row) ? ", with a note" : "";
    cell.element.setAttribute("aria-label", `${locloc.shown(locloc.rows.ids[cell.row])}, ${decision}${noted}`);
    cell.element.classList.toggle("noted", Boolean(noted));
  }

  markFocus() {
    const { focus } = locloc.selection;
    this.eachCell((cell) => {
      const focused = cell.position === focus;
      cell.element.classList.toggle("focused", focused);
      cell.element.setAttribute("aria-selected", focused);
    });
    this.scroller.setAttribute("aria-activedescendant", `cell-${focus}`);
  }

  // Scrolls just so far that the focused cell is seen.
  reveal() {
    const { focus } = locloc.selection;
    if (focus < 0 || !this.columns) return;
    const top = Math.floor(focus / this.columns) * this.stepY;
    const { scrollTop, clientHeight } = this.scroller;
    if (top < scrollTop) this.scroller.scrollTop = top;
    else if (top + this.stepY + this.gap > scrollTop + clientHeight) this.scroller.scrollTop = top + this.stepY + this.gap - clientHeight;
    this.update();
  }

  linesSeen() {
    return Math.max(1, Math.floor(this.scroller.clientHeight / this.stepY));
  }
};
