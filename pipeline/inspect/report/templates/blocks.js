// Drawings of 64 rows each, loaded as scripts when the first of their rows is looked at (file:// allows no fetch).
"use strict";

locloc.blocks = { there: new Map(), asked: new Map() };

locloc.KEPT_BLOCKS = 600;
locloc.AT_ONCE = 6;

// {drawings: [of each version], truth} of a row; null while they are loaded.
locloc.drawing = (row) => {
  const number = Math.floor(row / locloc.ROWS_A_BLOCK);
  const block = locloc.blocks.there.get(number);
  if (!block) {
    locloc.askForBlock(number);
    return null;
  }
  const n = row % locloc.ROWS_A_BLOCK;
  return { drawings: block.versions.map((rows) => rows[n] || {}), truth: block.truth[n] || null };
};

locloc.askForBlock = (number) => {
  const { asked } = locloc.blocks;
  if (asked.has(number)) return;
  asked.set(number, "waiting");
  locloc.loadBlocks();
};

// The latest asked for first: it is what one looks at now.
locloc.loadBlocks = () => {
  const { asked } = locloc.blocks;
  const waiting = [...asked].filter(([, state]) => state === "waiting").map(([number]) => number);
  let loading = [...asked.values()].filter((state) => state === "loading").length;
  while (waiting.length && loading < locloc.AT_ONCE) {
    const number = waiting.pop();
    loading++;
    asked.set(number, "loading");
    const done = () => {
      script.remove();
      asked.delete(number);
      if (!locloc.blocks.there.has(number)) asked.set(number, "failed"); // not tried again
      locloc.loadBlocks();
    };
    const source = `blocks/${String(number).padStart(5, "0")}.js`;
    const script = locloc.el("script", { src: source, onload: done, onerror: done });
    document.head.append(script);
  }
};

locloc.onBlock = (number, versions, truth) => {
  const { there } = locloc.blocks;
  there.set(number, { versions, truth });
  if (there.size > locloc.KEPT_BLOCKS) there.delete(there.keys().next().value);
  locloc.emit("block", number);
};
