
"use strict";
// Numbers and times as people read them.

const byId = (id) => document.getElementById(id);
const sum = (list, of) => list.reduce((total, one) => total + of(one), 0);
const most = (list, of) => list.reduce((top, one) => Math.max(top, of(one)), 0);

function count(n) {
  if (n >= 1e7) return (n / 1e6).toFixed(0) + " M";
  if (n >= 1e6) return (n / 1e6).toFixed(1) + " M";
  if (n >= 1e4) return (n / 1e3).toFixed(0) + " k";
  if (n >= 10 || Number.isInteger(n)) return n.toFixed(0);
  return n.toFixed(1);
}

function time(ms) {
  if (ms == null) return "–";
  if (ms === 0) return "0 ms";
  if (ms < 0.95) return ms < 0.1 ? "< 0.1 ms" : ms.toFixed(1) + " ms";
  if (ms < 9.5) return (+ms.toFixed(1)) + " ms";
  if (ms < 1000) return ms.toFixed(0) + " ms";
  return ms < 9950 ? (+(ms / 1000).toFixed(1)) + " s" : (ms / 1000).toFixed(0) + " s";
}

function percent(share) {
  const n = 100 * share;
  if (n > 99 && n < 100) return "> 99 %";
  return (n > 0 && n < 0.95 ? (n < 0.1 ? "< 0.1" : n.toFixed(1)) : n.toFixed(0)) + " %";
}

const spanWords = () => (span === 60 ? "last minute" : `last ${span / 60} min`);
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// Changes a node only if it has to change: nothing flickers, and readers are told of news alone.
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Makes as many children as there are items, and keeps those that are there.
function children(parent, items, create, update) {
  while (parent.children.length > items.length) parent.lastChild.remove();
  items.forEach((item, at) => {
    if (!parent.children[at]) parent.append(create());
    update(parent.children[at], item);
  });
}
