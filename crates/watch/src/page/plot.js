
// A plot has its scales, and lines, areas and heat on them.

let colors = {};
const GAP = 3500;

function readColors() {
  const style = getComputedStyle(document.documentElement);
  colors = new Proxy({}, {
    get: (known, name) => (known[name] ??= style.getPropertyValue("--" + name).trim()),
  });
}

function translucent(color, alpha) {
  return color + Math.round(255 * alpha).toString(16).padStart(2, "0");
}

// Begins a plot on a canvas: times below, values at the left.
function plot(id, samples, axis) {
  const canvas = byId(id);
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  const [left, right, top, bottom] = [52, width - 6, 8, height - 20];
  const end = samples.length ? samples[samples.length - 1].at : 0;
  const x = (at) => right - ((right - left) * (end - at)) / (span * 1000);
  const y = (value) => bottom - (bottom - top) * Math.min(1, Math.max(0, axis.place(value)));
  const it = { canvas, pen, left, right, top, bottom, end, x, y, samples };
  drawScales(it, axis);
  return it;
}

function drawScales({ pen, left, right, bottom, y }, axis) {
  pen.lineWidth = 1;
  pen.strokeStyle = colors.line;
  pen.fillStyle = colors.dim;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const tick of axis.ticks) {
    const at = Math.round(y(tick)) + 0.5;
    stroke(pen, [[left, at], [right, at]]);
    pen.fillText(axis.text(tick), left - 7, at);
  }
  pen.textBaseline = "alphabetic";
  for (const part of [0, 0.5, 1]) {
    pen.textAlign = ["left", "center", "right"][2 * part];
    const text = part === 1 ? "now" : `−${span * (1 - part)} s`;
    pen.fillText(text, left + (right - left) * part, bottom + 15);
  }
}

// From 0 to a round number above `top`, in two to four steps.
function linear(top, text = count) {
  const raw = Math.max(top, 1e-9) / 3;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
  const steps = Math.max(1, Math.ceil(top / step));
  const ticks = Array.from({ length: steps + 1 }, (_, nth) => nth * step);
  return { place: (value) => value / (steps * step), ticks, text };
}

// From `low` to `high` milliseconds, each power of ten the same height.
function logarithmic(low, high) {
  const [from, to] = [Math.log10(low), Math.log10(high)];
  const all = [0.01, 0.1, 1, 10, 100, 1e3, 1e4, 1e5];
  const ticks = all.filter((tick) => tick >= low * 0.99 && tick <= high * 1.01);
  return { place: (ms) => (Math.log10(ms) - from) / (to - from), ticks, text: time };
}

function stroke(pen, points) {
  pen.beginPath();
  points.forEach(([x, y], nth) => (nth ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.stroke();
}

// The samples in runs without a gap. Where a value is null there is a gap as well.
function runs({ samples }, value) {
  const all = [];
  let run = null;
  samples.forEach((sample, nth) => {
    const isApart = nth > 0 && sample.at - samples[nth - 1].at > GAP;
    if (value(sample) == null) return (run = null);
    if (!run || isApart) all.push((run = []));
    run.push(sample);
  });
  return all;
}

function line(plot, value, color, { steps = false, width = 2, dash = [] } = {}) {
  const { pen, x, y } = plot;
  [pen.strokeStyle, pen.lineWidth, pen.lineJoin] = [color, width, "round"];
  pen.setLineDash(dash);
  for (const run of runs(plot, value)) {
    const points = [[x(run[0].at - 1000 * Math.min(1, run[0].seconds)), y(value(run[0]))]];
    for (const sample of run) {
      if (steps) points.push([x(sample.at), points[points.length - 1][1]]);
      points.push([x(sample.at), y(value(sample))]);
    }
    stroke(pen, points);
  }
  pen.setLineDash([]);
}

function area(plot, low, high, color) {
  const { pen, x, y } = plot;
  pen.fillStyle = color;
  for (const run of runs(plot, high)) {
    const begin = x(run[0].at - 1000 * Math.min(1, run[0].seconds));
    pen.beginPath();
    pen.moveTo(begin, y(high(run[0])));
    run.forEach((sample) => pen.lineTo(x(sample.at), y(high(sample))));
    [...run].reverse().forEach((sample) => pen.lineTo(x(sample.at), y(low(sample))));
    pen.lineTo(begin, y(low(run[0])));
    pen.fill();
  }
}

// How many of the times were how long: a cell for each second and bucket, as one small picture.
const picture = document.createElement("canvas");

function heat(plot, layers, first, last) {
  const { pen, left, right, top, bottom, samples, end } = plot;
  [picture.width, picture.height] = [span, last - first + 1];
  const small = picture.getContext("2d");
  for (const [times, color] of layers) {
    const cells = small.createImageData(picture.width, picture.height);
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
    const densest = most(samples, (sample) => most(sample[times].buckets, ([, n]) => n)) || 1;
    for (const sample of samples) {
      const column = span - 1 - Math.round((end - sample.at) / 1000);
      for (const [bucket, n] of sample[times].buckets) {
        const row = last - Math.min(last, Math.max(first, bucket));
        if (column < 0) continue;
        const alpha = 255 * (0.18 + 0.82 * Math.sqrt(n / densest));
        const at = 4 * (row * span + column);
        cells.data.set([red, green, blue, Math.max(cells.data[at + 3], alpha)], at);
      }
    }
    small.putImageData(cells, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(picture, left, top, right - left, bottom - top);
  }
}
