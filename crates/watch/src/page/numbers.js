
// The state in a word and a sentence, the tiles, and the tables: all of the last ten seconds.

// The reasons for which requests were turned away, the most frequent first.
const turnedAway = ({ rejected }) =>
  about.reasons.filter(({ reason }) => rejected[reason]).sort((one, other) => rejected[other.reason] - rejected[one.reason]);
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
  const [worst] = turnedAway(recent);
  say(byId("help"), state === "overloaded" && worst ? `What helps: ${worst.helps}` : "");
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

const TILES = {
  asked: "Arrived, last 10 s", done: "Done, last 10 s", away: "Turned away, last 10 s", waited: "Waited at most, last 10 s",
  running: "Running now", waiting: "Waiting now",
};

function prepareTiles() {
  for (const [id, title] of Object.entries(TILES)) {
    const bar = id === "running" || id === "waiting" ? [make("dd", { class: "gauge" }, make("i", { id: id + "-bar" }))] : [];
    byId("tiles").append(make("div", { class: "card" }, make("dt", {}, title),
      make("dd", { id }, "–", make("small", {})), ...bar, make("dd", { class: "sub", id: id + "-sub" })));
  }
}

function tile(id, value, unit, below) {
  say(byId(id).firstChild, value);
  say(byId(id).lastChild, unit);
  say(byId(id + "-sub"), below);
}

function drawTiles({ recent, samples }) {
  const last = samples[samples.length - 1];
  if (!last) return;
  const [asked, done, gone] = [recent.asked, ended(recent), away(recent)].map((n) => rate(n, recent));
  const failed = rate(recent.failed, recent);
  tile("asked", count(asked), "/s", done > 0 && asked / done >= 1.1 ? `${(asked / done).toFixed(1)} × what is done` : "");
  tile("done", count(done), "/s", failed > 0 ? `${percent(failed / done)} of it failed` : "");
  tile("away", count(gone), "/s", asked > 0 ? percent(Math.min(1, gone / asked)) + " of all" : "");
  const [half, nearly] = recent.wait_ms;
  tile("waited", time(nearly), "", half == null ? "" : `99 of 100; half: ${time(half)}`);
  gauge("running", last.slots_taken, last.limit, last.slots_taken >= last.limit ? "all slots are taken" : "");
  gauge("waiting", last.queued, last.capacity, last.oldest_wait_ms == null ? "" : `the oldest for ${time(last.oldest_wait_ms)}`);
}

function gauge(id, n, of, below) {
  tile(id, count(n), `of ${count(of)}`, below);
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

const shareOf = (part, whole) => (part + whole ? percent(Math.min(1, part / Math.max(1, whole))) : "–");
const inWords = (value) => (typeof value === "object" ? Object.entries(value).map(([of, is]) => `${of} ${is}`).join(", ") : String(value));

function drawTables({ recent, samples, settings, flows }) {
  const last = samples[samples.length - 1];
  const levels = about.priorities.filter((level) => recent.priorities[level] || (last && last.priorities[level]));
  fill("by-priority", levels.map((level) => {
    const { asked, turned_away, wait_ms } = recent.priorities[level] || { asked: 0, turned_away: 0, wait_ms: [] };
    const waiting = ((last && last.priorities[level]) || [0, 0, 0])[2];
    return [level, count(rate(asked, recent)), shareOf(turned_away, asked), time(wait_ms[0]), time(wait_ms[1]), count(waiting)];
  }));
  const why = fill("by-reason", turnedAway(recent).map(({ reason, label, helps }) =>
    [label, count(rate(recent.rejected[reason], recent)), helps]));
  [...why.children].forEach((row) => (row.lastChild.className = "text"));
  fill("by-flow", flows.slice(0, 6).map(({ id, name, asked, rejected }) =>
    [name || "flow " + id, count(rate(asked, recent)), shareOf(asked, recent.asked), shareOf(rejected, asked)]));
  say(byId("no-flow"), settings.watch_flows ? "No request had a flow in the last 10 s." : "Unknown: the setting watch_flows is 0.");
  const all = Object.entries(settings).filter(([key]) => key !== "name");
  children(byId("settings"), all, () => make("div", {}, make("dt"), make("dd")), (pair, [key, value]) => {
    say(pair.firstChild, key);
    say(pair.lastChild, inWords(value));
  });
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
