// The rows of the page: columns as they come in data.js, and what is read of one row by its number.
"use strict";

locloc.NO_CLASS = 0xffff;
locloc.ROWS_A_BLOCK = 64;

locloc.onData = (data) => {
  const unpack = locloc.unpack;
  const texts = ([rows, values]) => new Map(rows.map((row, n) => [row, values[n]]));
  const rows = {
    count: data.ids.length,
    of: data.of,
    ids: data.ids,
    paths: data.paths || data.ids,
    key: data.key,
    versions: data.versions,
    originals: data.originals,
    truth: data.truth,
    classes: data.classes,
    splits: data.splits,
    statuses: data.statuses,
    class: unpack(data.class),
    split: unpack(data.split),
    status: unpack(data.status),
    hasMask: unpack(data.hasMask),
    decided: unpack(data.decided), // by the version itself: 0, 1 accepted, 2 rejected
    notes: texts(data.notes),
    errors: texts(data.errors),
    imageNotes: texts(data.imageNotes),
    hasTile: data.hasTile ? unpack(data.hasTile) : null,
    neighbours: data.neighbours ? unpack(data.neighbours) : null,
    otherStatus: data.otherStatus ? unpack(data.otherStatus) : null,
    otherHasMask: data.otherHasMask ? unpack(data.otherHasMask) : null,
    metrics: data.metrics.map((metric) => ({ ...metric, values: unpack(metric.values) })),
    kept: data.kept || [], // decisions that a server keeps: [id, decision, note]
  };
  const stored = unpack(data.size);
  const read = data.readSize ? unpack(data.readSize) : stored;
  rows.size = (row) => {
    const from = stored[2 * row] ? stored : read;
    return [from[2 * row] || 1, from[2 * row + 1] || 1];
  };
  rows.compares = rows.versions.length > 1;
  rows.tile = (row) => (rows.hasTile && !rows.hasTile[row] ? null : locloc.tileUrl(row));
  rows.metric = (key) => rows.metrics.find((metric) => metric.key === key);
  rows.className = (row) => (rows.class[row] === locloc.NO_CLASS ? "" : rows.classes[rows.class[row]]);
  rows.original = (row) => {
    if (locloc.live) return `image/${row}.webp`;
    if (rows.originals === null) return null;
    const path = rows.paths[row];
    if (/^[a-z][a-z0-9+.-]*:\/\//i.test(path)) return /^https?:/i.test(path) ? path : null;
    const quoted = path.split("/").map(encodeURIComponent).join("/");
    return path.startsWith("/") ? `file://${quoted}` : rows.originals + quoted;
  };
  for (const metric of rows.metrics) locloc.addRange(metric);
  locloc.rows = rows;
};

locloc.tileUrl = (row) => {
  if (locloc.live) return `tile/${row}.webp`;
  const folder = String(Math.floor(row / 100)).padStart(4, "0");
  return `tiles/${folder}/${String(row % 100).padStart(2, "0")}.webp`;
};

locloc.addRange = (metric) => {
  let low = Infinity;
  let high = -Infinity;
  for (const value of metric.values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  // Shares have the whole scale, so that pages can be compared.
  metric.low = low >= 0 && high <= 1 ? 0 : low;
  metric.high = low >= 0 && high <= 1 ? 1 : high > low ? high : low + 1;
};
