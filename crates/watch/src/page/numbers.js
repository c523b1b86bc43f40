
// The state in a word and a sentence, the tiles, and the tables: all of the last ten seconds.

const rate = (n, { seconds }) => (seconds ? n / seconds : 0);

function drawState({ name, state, sentence, recent }) {
  byId("verdict").className = "card " + state;
  say(byId("word"), capital(state));
  say(byId("sentence"), sentence);
  say(document.querySelector("title"), `${capital(state)} · ${name}`);
  drawIcon(state);
  const parts = [
    ["done", "c-done", recent.succeeded], ["failed", "c-failed", recent.failed], ["given up", "c-gray", recent.cancelled],
    ...about.reasons.map(({ reason, label }) => [label, "c-" + reason, recent.rejected[reason] || 0]),
  ].filter(([, , n]) => n > 0);
  const total = sum(parts, ([, , n]) => n);
  byId("split").hidden = !total;
  children(byId("parts"), parts, () => make("i"), (part, [, color, n]) => {
    [part.style.flexGrow, part.style.background] = [n / total, `var(--${color})`];
  });
  children(byId("shares"), parts, () => make("li", {}, make("i"), ""), (item, [label, color, n]) => {
    item.firstChild.style.background = `var(--${color})`;
    say(item.lastChild, `${percent(n / total)} ${label}`);
  });
}

let iconOf = null;

function drawIcon(state) {
  if (state === iconOf) return;
  iconOf = state;
  const color = getComputedStyle(byId("verdict")).getPropertyValue("--state").trim();
  const dot = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="${color}"/></svg>`;
  byId("icon").href = "data:image/svg+xml," + encodeURIComponent(dot);
}

function perSecond(id, n) {
  const node = byId(id);
  if (node.children.length === 0) node.replaceChildren("", make("small", {}, "/s"));
  say(node.firstChild, count(n));
}

function drawTiles({ recent, samples }) {
  const last = samples[samples.length - 1];
  if (!last) return;
  const [asked, done, gone] = [recent.asked, ended(recent), away(recent)].map((n) => rate(n, recent));
  const failed = rate(recent.failed, recent);
  perSecond("asked", asked);
  say(byId("asked-sub"), done > 0 && asked / done >= 1.1 ? `${(asked / done).toFixed(1)} × what is done` : "");
  perSecond("done", done);
  say(byId("done-sub"), failed > 0 ? `${percent(failed / done)} of it failed` : "");
  perSecond("away", gone);
  say(byId("away-sub"), asked > 0 ? percent(Math.min(1, gone / asked)) + " of all" : "");
  const [half, nearly] = recent.wait_ms;
  say(byId("waited"), time(nearly));
  say(byId("waited-sub"), half == null ? "" : `half at most ${time(half)}`);
  gauge("running", last.slots_taken, last.limit);
  say(byId("running-sub"), last.slots_taken >= last.limit ? "all slots are taken" : "");
  gauge("waiting", last.queued, last.capacity);
  say(byId("waiting-sub"), last.oldest_wait_ms == null ? "" : `the oldest for ${time(last.oldest_wait_ms)}`);
}

function gauge(id, n, of) {
  const node = byId(id);
  if (node.children.length === 0) node.replaceChildren("", make("small"));
  say(node.firstChild, count(n));
  say(node.lastChild, `of ${count(of)}`);
  const bar = byId(id + "-bar");
  bar.style.width = `${of ? Math.min(100, (100 * n) / of) : 0}%`;
  bar.className = of && n >= of ? "all" : "";
}

// Fills a table; each row keeps its node for as long as there are as many rows.
function fill(id, rows) {
  const body = byId(id);
  body.parentNode.className = rows.length ? "" : "empty";
  const create = () => {
    const row = make("tr");
    rows[0].forEach((_, nth) => row.append(nth ? make("td") : make("th", { scope: "row" })));
    return row;
  };
  children(body, rows, create, (row, cells) => cells.forEach((text, nth) => say(row.children[nth], text)));
  return body;
}

function drawTables({ recent, samples, settings }) {
  const last = samples[samples.length - 1];
  const levels = about.priorities.filter((level) => recent.priorities[level] || (last && last.priorities[level]));
  fill("by-priority", levels.map((level) => {
    const [asked, gone] = recent.priorities[level] || [0, 0];
    const waiting = ((last && last.priorities[level]) || [0, 0, 0])[2];
    const share = asked + gone ? percent(Math.min(1, gone / Math.max(1, asked))) : "–";
    return [level, count(rate(asked, recent)), count(rate(Math.max(0, asked - gone), recent)), share, count(waiting)];
  }));
  const reasons = about.reasons.filter(({ reason }) => recent.rejected[reason]);
  reasons.sort((one, other) => recent.rejected[other.reason] - recent.rejected[one.reason]);
  const why = fill("by-reason", reasons.map(({ reason, label, helps }) =>
    [label, count(rate(recent.rejected[reason], recent)), helps]));
  [...why.children].forEach((row) => (row.lastChild.className = "text"));
  fill("settings", Object.entries(settings || {}).filter(([key]) => key !== "name").map(([key, value]) =>
    [key, typeof value === "object" ? Object.entries(value).map(([of, is]) => `${of} ${is}`).join(", ") : String(value)]));
}

function drawLevelers() {
  const create = () => {
    const button = make("button", {}, make("i"), "", make("small"));
    button.addEventListener("click", () => choose([...byId("levelers").children].indexOf(button)));
    return button;
  };
  children(byId("levelers"), levelers, create, (button, { name, state }) => {
    const at = [...byId("levelers").children].indexOf(button);
    button.className = state;
    button.setAttribute("aria-pressed", at === chosen);
    say(button.childNodes[1], name);
    say(button.lastChild, state);
  });
}

function choose(at) {
  chosen = at;
  history.replaceState(null, "", "#" + encodeURIComponent(levelers[at].name));
  redraw();
}
