// Decisions about masks: kept in the browser's storage, or by the server that shows the page; out as decisions.csv.
"use strict";

locloc.decisions = {
  mine: new Map(), // row > {decision, note}
  history: [], // of changes, for undo: [[row, before], ...]
  isKept: true,
};

locloc.decisions.load = () => {
  const { mine } = locloc.decisions;
  const rowOf = new Map(locloc.rows.ids.map((id, row) => [id, row]));
  mine.clear();
  if (locloc.live) {
    for (const [id, decision, note] of locloc.rows.kept) if (rowOf.has(id)) mine.set(rowOf.get(id), { decision, note });
    return;
  }
  try {
    const prefix = locloc.decisions.prefix();
    for (let n = 0; n < localStorage.length; n++) {
      const name = localStorage.key(n);
      if (!name.startsWith(prefix)) continue;
      const row = rowOf.get(name.slice(prefix.length));
      const kept = locloc.decisions.parsed(localStorage.getItem(name));
      if (row !== undefined && kept) mine.set(row, kept);
    }
  } catch (error) {
    locloc.decisions.isKept = false;
  }
};

locloc.decisions.prefix = () => `locloc:${locloc.rows.key}:`;

locloc.decisions.parsed = (text) => {
  try {
    const { decision, note } = JSON.parse(text);
    const known = ["accepted", "rejected", "undecided"].includes(decision) && typeof note === "string";
    return known ? { decision, note } : null;
  } catch (error) {
    return null;
  }
};

locloc.decisions.ofVersion = (row) => ["undecided", "accepted", "rejected"][locloc.rows.decided[row]];
locloc.decisions.of = (row) => {
  const own = locloc.decisions.mine.get(row);
  return own ? own.decision : locloc.decisions.ofVersion(row);
};
locloc.decisions.note = (row) => {
  const own = locloc.decisions.mine.get(row);
  return own ? own.note : locloc.rows.notes.get(row) || "";
};

// Sets decision or note of rows that have a mask; {decision}, {note} or both.
locloc.decisions.set = (rows, change) => {
  const judged = rows.filter((row) => locloc.rows.hasMask[row]);
  if (judged.length < rows.length) locloc.say("An image without a mask cannot be judged");
  if (!judged.length) return;
  const before = [];
  for (const row of judged) {
    before.push([row, locloc.decisions.mine.get(row)]);
    const now = { decision: locloc.decisions.of(row), note: locloc.decisions.note(row), ...change };
    const same = now.decision === locloc.decisions.ofVersion(row) && now.note === (locloc.rows.notes.get(row) || "");
    if (same) locloc.decisions.mine.delete(row);
    else locloc.decisions.mine.set(row, now);
  }
  locloc.decisions.history.push(before);
  locloc.decisions.keep(judged);
  locloc.emit("decisions", judged);
};

locloc.decisions.undo = () => {
  const before = locloc.decisions.history.pop();
  if (!before) return locloc.say("Nothing to undo");
  for (const [row, own] of before) {
    if (own) locloc.decisions.mine.set(row, own);
    else locloc.decisions.mine.delete(row);
  }
  const rows = before.map(([row]) => row);
  locloc.decisions.keep(rows);
  locloc.emit("decisions", rows);
  locloc.say(`Undone: ${locloc.plural(rows.length, "image")}`);
  return rows;
};

locloc.decisions.keep = (rows) => {
  if (locloc.live) return locloc.decisions.send(rows);
  try {
    for (const row of rows) {
      const name = locloc.decisions.prefix() + locloc.rows.ids[row];
      const own = locloc.decisions.mine.get(row);
      if (own) localStorage.setItem(name, JSON.stringify(own));
      else localStorage.removeItem(name);
    }
  } catch (error) {
    locloc.decisions.isKept = false;
    locloc.say("This browser keeps no decisions: export them before you close the page");
  }
};

// Changes go to the server one after the other; what fails is sent again with the next.
locloc.decisions.unsent = new Set();
locloc.decisions.send = (rows) => {
  const { unsent, mine } = locloc.decisions;
  rows.forEach((row) => unsent.add(row));
  locloc.decisions.sending = (locloc.decisions.sending || Promise.resolve()).then(async () => {
    const now = [...unsent];
    if (!now.length) return;
    const changes = now.map((row) => {
      const own = mine.get(row);
      return [row, own ? own.decision : null, own ? own.note : ""];
    });
    let refused = "";
    try {
      const body = JSON.stringify(changes);
      const headers = { "Content-Type": "application/json" };
      const answer = await fetch("decisions", { method: "POST", headers, body });
      if (!answer.ok) throw new Error((refused = await answer.text()));
      now.forEach((row) => unsent.delete(row));
      locloc.decisions.isKept = true;
    } catch (error) {
      locloc.decisions.isKept = false;
      const why = refused ? `The server refused decisions (${refused})` : "The server does not answer";
      locloc.say(`${why}: they will be sent again with your next decision`);
    }
    locloc.emit("decisions", []);
  });
};

locloc.decisions.counts = () => {
  const counts = { accepted: 0, rejected: 0, undecided: 0, mine: locloc.decisions.mine.size };
  for (let row = 0; row < locloc.rows.count; row++) if (locloc.rows.hasMask[row]) counts[locloc.decisions.of(row)]++;
  return counts;
};

// RFC 4180. `masks decide` reads it.
locloc.decisions.csv = () => {
  const quoted = (text) => (/[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = [["id", "decision", "note"]];
  for (const row of [...locloc.decisions.mine.keys()].sort((a, b) => a - b)) {
    const { decision, note } = locloc.decisions.mine.get(row);
    lines.push([locloc.rows.ids[row], decision, note]);
  }
  return lines.map((line) => line.map(quoted).join(",")).join("\r\n") + "\r\n";
};

locloc.decisions.save = () => {
  if (!locloc.decisions.mine.size) return locloc.say("No decisions yet: A accepts, R rejects");
  const url = URL.createObjectURL(new Blob([locloc.decisions.csv()], { type: "text/csv;charset=utf-8" }));
  const link = locloc.el("a", { href: url, download: "decisions.csv" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
  locloc.say(`decisions.csv: ${locloc.plural(locloc.decisions.mine.size, "decision")}`);
};

// Another tab of the same page has decided.
window.addEventListener("storage", (event) => {
  if (locloc.live || !locloc.rows || !event.key || !event.key.startsWith(locloc.decisions.prefix())) return;
  const row = locloc.rows.ids.indexOf(event.key.slice(locloc.decisions.prefix().length));
  if (row < 0) return;
  const kept = event.newValue && locloc.decisions.parsed(event.newValue);
  if (kept) locloc.decisions.mine.set(row, kept);
  else locloc.decisions.mine.delete(row);
  locloc.emit("decisions", [row]);
});
