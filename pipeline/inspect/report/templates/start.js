// Puts the page together once the data are there.
"use strict";

locloc.showView = (view) => {
  if (locloc.viewer.isOpen() && view !== "gallery") locloc.viewer.close();
  document.body.dataset.view = view;
  for (const tab of document.querySelectorAll("[data-tab]")) {
    if (tab.dataset.tab === view) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  if (location.hash !== `#${view}`) history.replaceState(null, "", `#${view}`);
  if (view === "gallery") {
    locloc.gallery.measure();
    locloc.gallery.reveal();
    locloc.byId("scroller").focus({ preventScroll: true });
  } else if (!locloc.overview) locloc.overview = new locloc.Overview(locloc.byId("overview"));
};

locloc.startToolbar = () => {
  const { byId, el, rows, selection } = locloc;
  const find = byId("find");
  let waiting;
  find.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      selection.text = find.value;
      locloc.select();
    }, 120);
  });
  const sort = byId("sort");
  const names = [["id", "Id"], ...rows.metrics.map((metric) => [metric.key, metric.label])];
  names.push(["status", "Status"], ["decision", "Decision"]);
  if (rows.classes.length > 1) names.push(["class", "Class"]);
  sort.append(...names.map(([value, text]) => el("option", { value, text })));
  sort.addEventListener("change", () => {
    const metric = rows.metric(sort.value);
    locloc.sortBy(sort.value, Boolean(metric && metric.worst === "high"));
  });
  byId("turn").addEventListener("click", () => locloc.sortBy(selection.sort, !selection.descending));
  byId("size").addEventListener("change", (event) => locloc.gallery.setSize(event.target.value));
  byId("export").addEventListener("click", () => locloc.decisions.save());
  byId("help-button").addEventListener("click", () => byId("help").showModal());
  byId("filters-button").addEventListener("click", () => document.body.classList.toggle("filters-open"));
  byId("filters-done").addEventListener("click", () => document.body.classList.remove("filters-open"));
  byId("all-shown").addEventListener("change", (event) => {
    const decision = event.target.value;
    event.target.value = "";
    const shown = Array.from(selection.order).filter((row) => rows.hasMask[row]);
    if (!decision || !shown.length) return;
    const what = { accepted: "Accept", rejected: "Reject", undecided: "Take back the decisions about" }[decision];
    if (window.confirm(`${what} all ${locloc.plural(shown.length, "image")} that the filters show? Z undoes it.`)) locloc.decisions.set(shown, { decision });
  });
  const layers = byId("layers");
  const buttons = locloc.LAYERS.filter(([name]) => name !== "truth" || rows.truth.length).map(([name, label]) =>
    el("button", { class: "toggle", "data-layer": name, text: label, onclick: () => locloc.setLayer(name, !locloc.layers[name]) }),
  );
  layers.append(...buttons);
  const refreshLayers = () => buttons.forEach((button) => button.setAttribute("aria-pressed", locloc.layers[button.dataset.layer]));
  locloc.on("layers", refreshLayers);
  refreshLayers();
  locloc.on("selection", () => {
    sort.value = selection.sort;
    if (document.activeElement !== find) find.value = selection.text;
    byId("turn").textContent = selection.descending ? "highest first" : "lowest first";
    const all = selection.order.length === rows.count;
    byId("shown").textContent = all ? locloc.plural(rows.count, "image") : `${locloc.count(selection.order.length)} of ${locloc.plural(rows.count, "image")}`;
  });
};

locloc.startTheme = () => {
  const button = locloc.byId("theme");
  const kept = (value) => {
    try {
      if (value) localStorage.setItem("locloc-theme", value);
      return localStorage.getItem("locloc-theme");
    } catch (error) {
      return null;
    }
  };
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    if (locloc.overview) locloc.overview.element.querySelectorAll("canvas").forEach((canvas) => canvas.dispatchEvent(new Event("theme")));
  };
  const set = (theme) => {
    button.textContent = theme === "dark" ? "Light" : "Dark";
    show(theme);
  };
  // Paper is white, and what is drawn on a canvas knows no style for print.
  window.addEventListener("beforeprint", () => show("light"));
  window.addEventListener("afterprint", () => show(button.textContent === "Light" ? "dark" : "light"));
  set(kept() || (system.matches ? "dark" : "light"));
  system.addEventListener("change", () => !kept() && set(system.matches ? "dark" : "light"));
  button.addEventListener("click", () => set(kept(document.documentElement.dataset.theme === "dark" ? "light" : "dark") || "light"));
};

locloc.refreshJudged = () => {
  const counts = locloc.decisions.counts();
  const judged = counts.accepted + counts.rejected;
  locloc.byId("judged").textContent = judged ? `${locloc.count(counts.accepted)} accepted, ${locloc.count(counts.rejected)} rejected` : "";
  locloc.byId("progress").max = Math.max(1, judged + counts.undecided);
  locloc.byId("progress").value = judged;
  locloc.byId("export").disabled = !locloc.decisions.mine.size;
  locloc.byId("unkept").hidden = locloc.decisions.isKept;
};

locloc.start = () => {
  locloc.startTheme();
  if (!locloc.rows) {
    locloc.byId("failed").hidden = false;
    return;
  }
  locloc.decisions.load();
  locloc.gallery = new locloc.Gallery(locloc.byId("scroller"));
  locloc.viewer = new locloc.Viewer(locloc.byId("viewer"));
  locloc.startToolbar();
  new locloc.Filters(locloc.byId("filter-parts"), locloc.byId("chips"));
  const keys = locloc.KEYS.map(([key, what]) => locloc.el("div", {}, locloc.el("dt", {}, locloc.el("kbd", { text: key })), locloc.el("dd", { text: what })));
  locloc.byId("keys").append(...keys);
  document.addEventListener("keydown", locloc.onKey);
  for (const tab of document.querySelectorAll("[data-tab]")) tab.addEventListener("click", () => locloc.showView(tab.dataset.tab));
  locloc.on("decisions", locloc.onceAFrame(locloc.refreshJudged));
  locloc.refreshJudged();
  const first = locloc.rows.metrics.find((metric) => metric.worst);
  if (first) {
    locloc.selection.sort = first.key;
    locloc.selection.descending = first.worst === "high";
  }
  locloc.select();
  const view = location.hash === "#gallery" || locloc.rows.compares ? "gallery" : "overview";
  locloc.showView(location.hash === "#overview" ? "overview" : view);
  document.body.classList.add("ready");
};

locloc.start();
