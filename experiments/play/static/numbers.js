// What the page measures: frames/s that were shown, and the time from an input to the picture that it led to.

export class Rate {
  times = [];
  tick() {
    const now = performance.now();
    this.times.push(now);
    while (this.times.length && this.times[0] < now - 2000) this.times.shift();
  }
  get value() {
    const { times } = this;
    return times.length > 1 ? (1000 * (times.length - 1)) / (times.at(-1) - times[0]) : 0;
  }
}

export class Latency {
  waiting = new Map();
  taken = [];
  sent(seq) {
    this.waiting.set(seq, performance.now());
    if (this.waiting.size > 100) this.waiting.delete(this.waiting.keys().next().value);
  }
  // A picture has been shown that was computed under input `seq`; inputs before it were replaced by it.
  shown(seq) {
    const begun = this.waiting.get(seq);
    if (begun === undefined) return;
    this.taken.push(performance.now() - begun);
    if (this.taken.length > 200) this.taken.shift();
    for (const other of this.waiting.keys()) if (other <= seq) this.waiting.delete(other);
  }
  percentile(share) {
    if (!this.taken.length) return null;
    const sorted = [...this.taken].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor((share / 100) * sorted.length))];
  }
}

// The PSNR by step as a line, 0 to 50 dB.
export function drawDrift(svg, points) {
  const left = 22, right = 296, top = 6, bottom = 76, most = 50;
  const first = points[0].depth, last = Math.max(points.at(-1).depth, first + 1);
  const x = (depth) => left + ((right - left) * (depth - first)) / (last - first);
  const y = (psnr) => bottom - ((bottom - top) * Math.min(psnr, most)) / most;
  const line = points.map((p, i) => `${i ? "L" : "M"}${x(p.depth).toFixed(1)} ${y(p.psnr).toFixed(1)}`).join("");
  const grid = [0, 25, 50].map((v) => `<line x1="${left}" x2="${right}" y1="${y(v)}" y2="${y(v)}"/><text x="2" y="${y(v) + 3}">${v}</text>`);
  svg.innerHTML = `${grid.join("")}<text x="${left}" y="88">${first}</text><text x="${right}" y="88" text-anchor="end">${last}</text><path d="${line}"/>`;
}
