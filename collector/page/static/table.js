// The events, newest first: a list of which only the rows in sight are in the document, however many are loaded.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/preact-htm.js";
import { shown } from "./moments.js";
import { LETTERS, Message, valueOf } from "./texts.js";

const ROW = 24, WRAPPED = 64, SPARE = 12;
const WIDTHS = { timestamp: "12rem", severity: "5rem", service: "minmax(4rem, 8rem)", message: "minmax(12rem, 1fr)" };
export const COLUMNS = ["timestamp", "severity", "service", "message"];

export function Table({ rows, columns, utc, wrap, marks, chosen, onChoose, onMore, more, busy, follow }) {
  const box = useRef(null);
  const [top, setTop] = useState(0);
  const [tall, setTall] = useState(600);
  const high = wrap ? WRAPPED : ROW;
  useLayoutEffect(() => {
    const seen = new ResizeObserver(([entry]) => setTall(entry.contentRect.height));
    seen.observe(box.current);
    return () => seen.disconnect();
  }, []);
  const first = Math.max(0, Math.floor(top / high) - SPARE);
  const last = Math.min(rows.length, Math.ceil((top + tall) / high) + SPARE);
  useEffect(() => { if (more && !busy && last >= rows.length - 50) onMore(); }, [last, rows.length, more, busy]);
  useEffect(() => { if (follow) box.current.scrollTop = 0; }, [follow, rows.length]);
  // The chosen row is kept in sight when keys move it.
  useEffect(() => {
    const at = rows.findIndex((row) => row.id === chosen);
    if (at < 0) return;
    const place = box.current;
    if (at * high < place.scrollTop) place.scrollTop = at * high;
    else if ((at + 2) * high > place.scrollTop + place.clientHeight) place.scrollTop = (at + 2) * high - place.clientHeight;
  }, [chosen]);
  const grid = { gridTemplateColumns: columns.map((name) => WIDTHS[name] || "minmax(6rem, 12rem)").join(" ") };
  return html`<div class=${`table ${wrap ? "wrap" : ""}`} role="grid" aria-label="Events" aria-rowcount=${more ? -1 : rows.length} aria-busy=${busy}>
    <div class="row head" role="row" style=${grid}>${columns.map((name) => html`<span role="columnheader">${name}</span>`)}</div>
    <div class="rows" ref=${box} tabindex="0" role="rowgroup" aria-label="Rows of events" onScroll=${(event) => setTop(event.currentTarget.scrollTop)}>
      <div class="space" role="presentation" style=${{ height: `${rows.length * high}px` }}>
        ${rows.slice(first, last).map((event, n) => html`<${Row} key=${event.id} event=${event} top=${(first + n) * high} high=${high} index=${first + n}
          columns=${columns} grid=${grid} utc=${utc} marks=${marks} chosen=${event.id === chosen} onChoose=${onChoose} />`)}
      </div>
    </div>
  </div>`;
}

function Row({ event, top, high, index, columns, grid, utc, marks, chosen, onChoose }) {
  return html`<div class=${`row ${chosen ? "chosen" : ""} l-${event.severity}`} role="row" aria-rowindex=${index + 2} aria-selected=${chosen}
    style=${{ ...grid, top: `${top}px`, height: `${high}px` }} onClick=${() => onChoose(event)}>
    ${columns.map((name) => html`<span role="gridcell" class=${`cell c-${name}`}>${cell(event, name, utc, marks)}</span>`)}</div>`;
}

function cell(event, name, utc, marks) {
  if (name === "timestamp" || name === "observed_timestamp") return shown(event[name], utc);
  if (name === "severity") return html`<span class=${`key s-${event.severity}`}>${LETTERS[event.severity]}</span> ${event.severity}`;
  if (name === "message") return html`<${Message} text=${valueOf(event, "message").slice(0, 2000)} marks=${marks} />`;
  return valueOf(event, name);
}
