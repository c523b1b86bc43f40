
// Where the numbers come from, and when they are drawn.

const base = location.pathname.replace(/\/?$/, "/");
const POLLS = 15;
// The longest time that drawing takes of a frame, in milliseconds.
const SHARE = 12;
let work = null;
let isAsked = false;

// Draws with the next frame, however often it is asked for; what takes long, over several.
function redraw() {
  work = null;
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(drawSome);
}

function drawSome() {
  work ||= draw();
  const begin = performance.now();
  do {
    if (work.next().done) return (isAsked = false);
  } while (performance.now() - begin < SHARE);
  requestAnimationFrame(drawSome);
}

function* draw() {
  const leveler = levelers[chosen];
  if (!leveler) return;
  drawLevelers();
  drawState(leveler);
  drawTiles(leveler);
  yield;
  drawTables(leveler);
  yield* drawCharts();
}

function hear(text) {
  learn(JSON.parse(text));
  tellAge();
  redraw();
}

function tellAge() {
  const age = Math.round((Date.now() - heardAt) / 1000);
  const isOld = heardAt > 0 && age > 4;
  if (heardAt) say(byId("fresh"), isOld ? "no news: these numbers are old" : "live");
  say(byId("age"), isOld ? `, by ${age} s` : "");
  byId("live").className = isOld ? "old" : "";
}

// Listens to events. If none are to be had, since enough pages listen, polls for some time.
function listen() {
  const events = new EventSource(base + "events");
  events.onmessage = ({ data }) => hear(data);
  events.onerror = () => {
    if (events.readyState === EventSource.CLOSED) poll("history.json", POLLS);
  };
}

async function poll(endpoint, times) {
  try {
    const answer = await fetch(base + endpoint);
    if (answer.ok) hear(await answer.text());
  } catch {
    // The age of the numbers tells of it.
  }
  setTimeout(() => (times > 0 ? poll("stats.json", times - 1) : listen()), 1000);
}

for (const button of byId("spans").children) {
  button.addEventListener("click", () => {
    span = Number(button.dataset.span);
    for (const one of byId("spans").children) one.setAttribute("aria-pressed", one === button);
    redraw();
  });
  button.setAttribute("aria-pressed", Number(button.dataset.span) === span);
}
for (const [id, endpoint] of [["to-stats", "stats.json"], ["to-history", "history.json"], ["to-metrics", "metrics"]]) {
  byId(id).href = base + endpoint;
}
readColors();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readColors();
  iconOf = null;
  redraw();
});
prepareTiles();
prepareCharts();
listen();
setInterval(tellAge, 1000);
