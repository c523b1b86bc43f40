
// What the page knows: each leveler with its samples, the oldest first.

const KEPT = 300;
let levelers = [];
let about = { run: null, bucket_ends_ms: [], priorities: [], reasons: [] };
let chosen = 0;
let span = 120;
let heardAt = 0;

const WORST = ["stalled", "overloaded", "draining", "closed", "paused", "leveling", "calm", "idle"];

function learn(news) {
  const isNew = news.run !== about.run || news.levelers.length !== levelers.length;
  about = news;
  if (isNew) {
    levelers = news.levelers.map(() => ({ samples: [] }));
    chosen = firstChoice(news.levelers);
  }
  news.levelers.forEach((now, at) => {
    const { samples } = levelers[at];
    const last = samples.length ? samples[samples.length - 1].id : 0;
    samples.push(...now.samples.filter((sample) => sample.id > last));
    samples.splice(0, samples.length - KEPT);
    levelers[at] = { ...now, samples };
  });
  heardAt = Date.now();
}

// The one that the address names, or the one that needs a look most.
function firstChoice(all) {
  const named = all.findIndex(({ name }) => "#" + encodeURIComponent(name) === location.hash);
  if (named >= 0) return named;
  const rank = ({ state }) => WORST.indexOf(state);
  return all.reduce((worst, one, at) => (rank(one) < rank(all[worst]) ? at : worst), 0);
}

// The samples in the span that is shown.
function shown() {
  const { samples } = levelers[chosen];
  const end = samples.length ? samples[samples.length - 1].at : 0;
  return samples.filter(({ at }) => end - at <= span * 1000);
}

const away = ({ rejected }) => sum(Object.values(rejected), (n) => n);
const ended = ({ succeeded, failed }) => succeeded + failed;
