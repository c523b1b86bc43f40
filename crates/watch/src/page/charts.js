
// What each chart draws, and the sentence below it that says the same.

const reasonLabel = (word) => (about.reasons.find(({ reason }) => reason === word) || { label: word }).label;
const reasonsIn = (samples) =>
  about.reasons.map(({ reason }) => reason).filter((reason) => samples.some(({ rejected }) => rejected[reason]));
const PRIORITY_COLORS = {
  critical: "c-cut_off", high: "c-full", normal: "c-wait", low: "c-max_wait", background: "c-gray",
};

const PHASES = {
  startup: "looking for it", probe_up: "trying a higher one", cruise: "keeping it", probe_down: "trying a lower one",
  verify: "measuring again", backoff: "cutting it",
};

const CHARTS = {
  flow(samples) {
    const parts = [
      ["done", "c-done", (sample) => sample.succeeded],
      ["failed", "c-failed", (sample) => sample.failed],
      ["given up", "c-gray", (sample) => sample.cancelled],
      ...reasonsIn(samples).map((reason) =>
        [reasonLabel(reason), "c-" + reason, (sample) => sample.rejected[reason] || 0]),
    ].filter(([label, , of]) => label === "done" || samples.some(of));
    const asked = (sample) => sample.asked / sample.seconds;
    const all = (sample) => sum(parts, ([, , of]) => of(sample)) / sample.seconds;
    const it = plot("flow", samples, linear(most(samples, (sample) => Math.max(asked(sample), all(sample)))));
    let below = () => 0;
    for (const [, color, of] of parts) {
      const low = below;
      const high = (sample) => low(sample) + of(sample) / sample.seconds;
      area(it, low, high, colors[color]);
      below = high;
    }
    line(it, asked, colors.ink, { width: 1.5 });
    const turned = reasonsIn(samples)
      .map((reason) => [sum(samples, ({ rejected }) => rejected[reason] || 0), reasonLabel(reason)])
      .sort(([a], [b]) => b - a);
    const failed = sum(samples, (sample) => sample.failed);
    return {
      key: [...parts.map(([label, color]) => [label, color]), ["arrived", "ink", "line"]],
      says: (turned.length
        ? `Turned away in the ${spanWords()}: ${turned.slice(0, 3).map(([n, why]) => `${count(n)} ${why}`).join(", ")}.`
        : `None was turned away in the ${spanWords()}.`) + (failed ? ` ${count(failed)} failed.` : ""),
      read: (sample) => [["arrived", asked(sample)], ...parts.map(([label, , of]) => [label, of(sample) / sample.seconds])]
        .map(([label, n]) => `${label} ${count(n)}`),
    };
  },

  limit(samples) {
    const it = plot("limit", samples, linear(most(samples, ({ limit, slots_taken }) => Math.max(limit, slots_taken))));
    area(it, () => 0, ({ slots_taken }) => slots_taken, translucent(colors["c-wait"], 0.35));
    line(it, ({ slots_taken }) => slots_taken, colors["c-wait"], { width: 1 });
    line(it, ({ limit }) => limit, colors.ink, { steps: true });
    const limits = samples.map(({ limit }) => limit);
    const [low, high, now] = [Math.min(...limits), Math.max(...limits), limits[limits.length - 1]];
    const full = samples.filter(({ slots_taken, limit }) => slots_taken >= limit).length / samples.length;
    const view = levelers[chosen].limit_view;
    const phase = view && (PHASES[view.phase] || view.phase);
    const how = !view ? ", fixed" : phase ? `: ${phase}` : ", found";
    const range = low === high ? `The limit is ${now}${how}.` : `The limit was ${low} to ${high}, and is now ${now}${how}.`;
    return {
      key: [["slots taken", "c-wait"], ["limit", "ink", "line"]],
      says: `${range} All slots were taken in ${percent(full)} of the seconds.`,
      read: ({ slots_taken, limit }) => [`slots taken ${slots_taken}`, `limit ${limit}`],
    };
  },

  waits(samples) {
    const ends = about.bucket_ends_ms;
    const used = samples.flatMap(({ wait, removed_wait }) => [...wait.buckets, ...removed_wait.buckets].map(([at]) => at));
    const last = samples[samples.length - 1];
    const allowed = last.max_wait_ms == null ? 0 : ends.findIndex((end) => end >= last.max_wait_ms);
    const top = Math.min(ends.length - 1, 1 + used.reduce((a, b) => Math.max(a, b), Math.max(allowed, 14)));
    const first = Math.max(1, Math.min(8, top - 12));
    const axis = logarithmic(ends[first - 1], ends[top]);
    const it = plot("waits", samples, axis);
    const removed = samples.some(({ removed_wait }) => removed_wait.buckets.length);
    heat(it, [["wait", colors["c-wait"]], ["removed_wait", colors["c-gone"]]], first, top);
    const limited = samples.some(({ max_wait_ms }) => max_wait_ms != null);
    if (limited) line(it, ({ max_wait_ms }) => max_wait_ms, colors.ink, { steps: true, width: 1.5, dash: [5, 4] });
    const { wait_ms: [half, nearly], removed_wait_ms: [gone] } = levelers[chosen].recent;
    return {
      key: [["dispatched; stronger: more", "c-wait"], ...(removed ? [["removed or given up", "c-gone"]] : []),
        ...(limited ? [["max_wait", "ink", "dash"]] : [])],
      says: (half == null ? "None was dispatched in 10 s." : `Half waited ${time(half)}, 99 of 100 at most ${time(nearly)}`
        + (last.max_wait_ms == null ? "; no max_wait is set." : `, of ${time(last.max_wait_ms)} that are allowed.`))
        + (gone == null ? "" : ` Half of those removed had waited ${time(gone)}.`),
      read: ({ wait, removed_wait }) => [`half ${time(wait.p50_ms)}`, `99 of 100 ${time(wait.p99_ms)}`,
        ...(removed_wait.p50_ms == null ? [] : [`removed ${time(removed_wait.p50_ms)}`])],
    };
  },

  queue(samples) {
    const top = most(samples, ({ queued }) => queued);
    const last = samples[samples.length - 1];
    const isNear = last.capacity <= 4 * top;
    const it = plot("queue", samples, linear(Math.max(isNear ? last.capacity : 0, top, 4)));
    area(it, () => 0, ({ queued }) => queued, translucent(colors["c-wait"], 0.35));
    line(it, ({ queued }) => queued, colors["c-wait"]);
    if (isNear) line(it, ({ capacity }) => capacity, colors.ink, { steps: true, width: 1.5, dash: [5, 4] });
    const oldest = most(samples, ({ oldest_wait_ms }) => oldest_wait_ms || 0);
    return {
      key: [["waiting", "c-wait"], ...(isNear ? [["capacity", "ink", "dash"]] : [])],
      says: top ? `At most ${count(top)} waited, of ${count(last.capacity)} that may; the oldest for ${time(oldest)}.`
        : `None waited when looked at, once a second. ${count(last.capacity)} may.`,
      read: ({ queued, oldest_wait_ms }) => [`waiting ${queued}`, ...(queued ? [`oldest ${time(oldest_wait_ms)}`] : [])],
    };
  },

  service(samples) {
    const half = ({ service }) => service.p50_ms && Math.max(0.01, service.p50_ms);
    const nearly = ({ service }) => service.p99_ms && Math.max(0.01, service.p99_ms);
    const known = samples.filter((sample) => half(sample));
    const low = known.reduce((least, sample) => Math.min(least, half(sample)), 10);
    const high = most(known, nearly) || 100;
    const round = (ms, way) => 10 ** way(Math.log10(ms));
    const it = plot("service", samples, logarithmic(round(low, Math.floor), Math.max(round(high, Math.ceil), 10 * round(low, Math.floor))));
    area(it, half, nearly, translucent(colors["c-done"], 0.25));
    line(it, nearly, colors["c-done"], { width: 1 });
    line(it, half, colors["c-done"], { width: 2.5 });
    const [now, slow] = levelers[chosen].recent.service_ms;
    const best = known.reduce((least, sample) => Math.min(least, half(sample)), Infinity);
    return {
      key: [["half take at most", "c-done", "line"], ["up to 99 of 100", "c-done"]],
      says: now == null ? "None has ended in the last 10 s."
        : `Half take at most ${time(now)}, 99 of 100 at most ${time(slow)}. In the best second of the ${spanWords()} half took ${time(best)}.`,
      read: ({ service }) => [`half ${time(service.p50_ms)}`, `99 of 100 ${time(service.p99_ms)}`],
    };
  },

  levels(samples) {
    const share = (level) => ({ priorities }) => {
      const [asked, gone] = priorities[level] || [0, 0];
      return asked + gone ? Math.min(1, gone / Math.max(1, asked)) : null;
    };
    const levels = about.priorities.filter((level) => samples.some(share(level)) || samples.some(({ priorities }) => priorities[level]));
    const it = plot("levels", samples, { place: (value) => value, ticks: [0, 0.5, 1], text: percent });
    for (const level of levels) line(it, share(level), colors[PRIORITY_COLORS[level] || "ink"]);
    const whole = levels.map((level) => {
      const of = (at) => sum(samples, ({ priorities }) => (priorities[level] || [0, 0])[at]);
      return [level, of(1) / Math.max(1, of(0))];
    });
    return {
      key: levels.map((level) => [level, PRIORITY_COLORS[level] || "ink", "line"]),
      says: whole.length ? `Of the requests of each in the ${spanWords()}: ${whole.map(([level, part]) => `${level} ${percent(Math.min(1, part))}`).join(", ")}.`
        : "No requests arrived.",
      read: (sample) => levels.map((level) => `${level} ${share(level)(sample) == null ? "–" : percent(share(level)(sample))}`),
    };
  },
};

// Where the reader points, in milliseconds before the newest sample.
let pointed = null;

// In parts: all together take too long, the first time.
function* drawCharts() {
  const samples = shown();
  if (!samples.length) return;
  const end = samples[samples.length - 1].at;
  const near = (one, other) => (Math.abs(end - one.at - pointed) <= Math.abs(end - other.at - pointed) ? one : other);
  const at = pointed == null ? null : samples.reduce((best, sample) => near(best, sample));
  for (const [id, draw] of Object.entries(CHARTS)) {
    yield;
    const { key, says, read } = draw(samples);
    drawKey(byId(id + "-key"), key);
    const text = at ? `${new Date(at.at).toLocaleTimeString()} · ${read(at).join(" · ")}` : says;
    if (at) drawPointer(id, (end - at.at) / 1000);
    say(byId(id + "-says"), text);
    const values = { text, min: -span, now: at ? -Math.round((end - at.at) / 1000) : 0 };
    for (const [name, value] of Object.entries(values)) byId(id).setAttribute("aria-value" + name, value);
  }
}

function drawKey(list, key) {
  children(list, key, () => make("li", {}, make("i"), ""), (item, [label, color, kind]) => {
    item.firstChild.className = kind || "";
    const paint = `var(--${color})`;
    [item.firstChild.style.background, item.firstChild.style.borderColor] = [paint, paint];
    say(item.lastChild, label);
  });
}

const LEFT = 52, RIGHT = 6;

function drawPointer(id, ago) {
  const canvas = byId(id);
  const x = canvas.clientWidth - RIGHT - ((canvas.clientWidth - LEFT - RIGHT) * ago) / span;
  const pen = canvas.getContext("2d");
  [pen.strokeStyle, pen.lineWidth] = [colors.ink, 1];
  stroke(pen, [[x, 4], [x, canvas.clientHeight - 20]]);
}

function pointAt(canvas, clientX) {
  const { left, width } = canvas.getBoundingClientRect();
  const part = (left + width - RIGHT - clientX) / (width - LEFT - RIGHT);
  pointed = part < 0 || part > 1 ? null : part * span * 1000;
  redraw();
}

const TITLES = {
  flow: "Requests that arrive, and what becomes of them, a second",
  limit: "Running, and the limit",
  waits: "How long requests wait",
  queue: "How many wait",
  service: "How long calls take",
  levels: "Turned away, by priority",
};

function prepareCharts() {
  for (const [id, title] of Object.entries(TITLES)) {
    const canvas = make("canvas", { id, tabindex: 0, role: "slider", "aria-label": title, "aria-valuemax": 0, "aria-valuenow": 0 });
    byId("charts").append(make("figure", { class: "card" }, make("h3", {}, title),
      make("ul", { id: id + "-key", class: "legend" }), canvas, make("figcaption", { id: id + "-says" })));
    canvas.addEventListener("pointermove", (event) => pointAt(canvas, event.clientX));
    for (const end of ["pointerleave", "blur"]) canvas.addEventListener(end, () => { pointed = null; redraw(); });
    canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: 1000, ArrowRight: -1000, PageUp: 10000, PageDown: -10000, Home: Infinity, End: -Infinity };
      if (event.key === "Escape") pointed = null;
      else if (event.key in steps) pointed = Math.min(span * 1000, Math.max(0, (pointed || 0) + steps[event.key]));
      else return;
      event.preventDefault();
      redraw();
    });
    new ResizeObserver(redraw).observe(canvas);
  }
}
