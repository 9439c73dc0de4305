// Events over time, by severity. Dragging over it zooms in, a click takes one bar; for keys there is the form of the range.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/preact-htm.js";
import { number, short, shown } from "./moments.js";
import { LETTERS, SEVERITIES } from "./texts.js";

const HEIGHT = 96, FOOT = 18;

export function useWidth(ref) {
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const seen = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    seen.observe(ref.current);
    return () => seen.disconnect();
  }, []);
  return width;
}

export function Histogram({ answer, utc, busy, onZoom }) {
  const box = useRef(null);
  const width = useWidth(box);
  const [brush, setBrush] = useState(null);
  const [over, setOver] = useState(null);
  const buckets = answer ? answer.buckets : [];
  useEffect(() => setBrush(null), [answer]);
  if (!answer || !buckets.length || !width) return html`<div class="histogram" ref=${box}>${busy && html`<p class="quiet">Counting …</p>`}</div>`;

  const start = Date.parse(buckets[0].start), end = Date.parse(buckets.at(-1).end), span = end - start;
  const most = Math.max(1, ...buckets.map((bucket) => bucket.count));
  const x = (ms) => ((ms - start) / span) * width;
  const at = (event) => {
    const { left } = box.current.getBoundingClientRect();
    return start + (Math.min(Math.max(event.clientX - left, 0), width) / width) * span;
  };
  const down = (event) => {
    if (event.button) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    setBrush([at(event), at(event)]);
  };
  const move = (event) => {
    const ms = at(event);
    setOver(buckets.find((bucket) => Date.parse(bucket.end) > ms) || null);
    if (brush) setBrush([brush[0], ms]);
  };
  const up = () => {
    if (!brush) return;
    const [from, to] = brush[0] < brush[1] ? brush : [brush[1], brush[0]];
    setBrush(null);
    if (x(to) - x(from) < 4) { // a click: the bucket that it is in
      const one = buckets.find((bucket) => Date.parse(bucket.end) > from);
      if (one) onZoom(one.start, one.end);
    } else onZoom(new Date(from).toISOString(), new Date(to).toISOString());
  };
  const bars = buckets.flatMap((bucket) => {
    const left = x(Date.parse(bucket.start)), wide = Math.max(x(Date.parse(bucket.end)) - left - 1, 1);
    let top = HEIGHT;
    return partsOf(bucket).map(([name, count]) => {
      const tall = Math.max((count / most) * (HEIGHT - 6), 1);
      top -= tall;
      return html`<rect class=${`bar s-${name}`} x=${left} y=${top} width=${wide} height=${tall} />`;
    });
  });
  const ticks = Array.from({ length: Math.max(2, Math.floor(width / 130)) }, (_, n, all = Math.max(2, Math.floor(width / 130))) => start + (span * n) / all);
  const sums = Object.fromEntries(SEVERITIES.map((name) => [name, 0]));
  for (const bucket of buckets) for (const [name, count] of partsOf(bucket)) sums[name] += count;
  const told = `${number(answer.total_count)} events from ${shown(answer.start_time, utc)} to ${shown(answer.end_time, utc)}: `
    + SEVERITIES.filter((name) => sums[name]).map((name) => `${number(sums[name])} ${name}`).join(", ");
  return html`<div class="histogram" ref=${box} aria-busy=${busy}>
    <svg width=${width} height=${HEIGHT + FOOT} role="img" aria-label=${told} onPointerDown=${down} onPointerMove=${move} onPointerUp=${up}
      onPointerLeave=${() => setOver(null)}>
      ${bars}
      ${ticks.map((ms) => html`<text class="tick" x=${x(ms) + 2} y=${HEIGHT + 13}>${short(new Date(ms).toISOString(), utc, span)}</text>`)}
      ${brush && html`<rect class="brush" x=${Math.min(x(brush[0]), x(brush[1]))} y="0" width=${Math.abs(x(brush[1]) - x(brush[0]))} height=${HEIGHT} />`}
    </svg>
    <p class="legend">${over
      ? html`${shown(over.start, utc).slice(0, 19)} · ${number(over.count)} events ${partsOf(over).map(([name, count]) => html`<span class=${`key s-${name}`}>${LETTERS[name]}</span> ${number(count)} `)}`
      : SEVERITIES.filter((name) => sums[name]).map((name) => html`<span><span class=${`key s-${name}`}>${LETTERS[name]}</span> ${name} ${number(sums[name])} </span>`)}</p>
  </div>`;
}

// [severity, count] of a bucket, the lightest first.
const partsOf = (bucket) => SEVERITIES.map((name) => [name, bucket.values[name] || 0]).filter(([, count]) => count);

// An answer with what each bucket has of each severity in the bucket.
export function bySeverity(answer) {
  answer.buckets.forEach((bucket, n) => {
    bucket.values = Object.fromEntries((answer.series || []).map(({ value, counts }) => [value, counts[n]]));
  });
  return answer;
}
