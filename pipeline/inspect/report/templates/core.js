// The namespace of the page, and what all its parts use. Text is only ever set as text: no part parses HTML.
"use strict";

const locloc = { live: document.documentElement.dataset.live === "yes" };

// Events: "selection" (rows or their order changed), "decisions", "block" (drawings arrived), "focus", "view", "layers".
locloc.events = new EventTarget();
locloc.emit = (name, detail) => locloc.events.dispatchEvent(new CustomEvent(name, { detail }));
locloc.on = (name, listener) => locloc.events.addEventListener(name, (event) => listener(event.detail));

// el("button", {class: "quiet", text: "Close", onclick: close, "aria-label": "..."}, ...children)
locloc.el = (tag, properties = {}, ...children) => locloc.fill(document.createElement(tag), properties, children);
locloc.svg = (tag, properties = {}, ...children) =>
  locloc.fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);

locloc.fill = (element, properties, children) => {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};

locloc.byId = (id) => document.getElementById(id);

// {type, base64} of escape.py > typed array.
locloc.unpack = ({ type, base64 }) => {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let n = 0; n < text.length; n++) bytes[n] = text.charCodeAt(n);
  const kinds = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i4: Int32Array, f4: Float32Array };
  return new kinds[type](bytes.buffer);
};

// Control characters and those that turn the direction of text are shown as what they are.
locloc.shown = (text) =>
  text.replace(/[\u0000-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g, (one) => {
    const known = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
    return known[one] || "\\u" + one.charCodeAt(0).toString(16).padStart(4, "0");
  });

locloc.count = (number) => number.toLocaleString("en-US");
locloc.plural = (number, one, many = one + "s") => `${locloc.count(number)} ${number === 1 ? one : many}`;
locloc.figureOf = (value) => (Number.isFinite(value) ? value.toFixed(Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 3) : "–");
// "True IoU" > "true IoU", within a sentence.
locloc.inText = (label) => label.charAt(0).toLowerCase() + label.slice(1);
locloc.share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "–");

// Calls `work` once a frame at most.
locloc.onceAFrame = (work) => {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      work();
    });
  };
};

locloc.say = (text) => {
  const toast = locloc.byId("toast");
  toast.textContent = text;
  toast.classList.add("shown");
  clearTimeout(locloc.say.timer);
  locloc.say.timer = setTimeout(() => toast.classList.remove("shown"), 3500);
};
