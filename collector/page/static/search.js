// The search bar: query with completion and the place of a fault, range, saved searches.

import { html, useEffect, useRef, useState } from "./vendor/preact-htm.js";
import { call } from "./api.js";
import { useOutside } from "./menus.js";
import { RANGES, fromInput, isRelative, moment, span, toInput, zoneName } from "./moments.js";
import { past, remember } from "./place.js";
import { atCaret, faultColumn, quoted } from "./terms.js";

const HINT = 'words, "a phrase", level:>=warning, service:shop …';

export function SearchBar({ place, fields, error, busy, onChange, inputRef }) {
  const [text, setText] = useState(place.q);
  const [offers, setOffers] = useState([]);
  const [at, setAt] = useState(-1);
  const [shows, setShows] = useState(false);
  const asking = useRef(null);
  useEffect(() => setText(place.q), [place.q]);
  useEffect(() => { // as one types, after a moment of rest
    if (text === place.q) return undefined;
    const rest = setTimeout(() => onChange({ q: text }, { replace: true }), 500);
    return () => clearTimeout(rest); // also when the query was changed elsewhere meanwhile
  }, [text, place.q]);

  const offer = async (input) => {
    asking.current?.abort();
    const spot = atCaret(input.value, input.selectionStart);
    setAt(-1);
    if (!input.value) { setOffers(past().slice(0, 8).map((q) => ({ label: q, whole: q, note: "before" }))); return; }
    if (spot.kind === "field") {
      const begun = spot.text.toLowerCase();
      setOffers(begun ? fields.filter(({ name }) => name.toLowerCase().includes(begun)).slice(0, 8)
        .map(({ name, type }) => ({ label: `${name}:`, put: `${name}:`, from: spot.start, note: type })) : []);
      return;
    }
    const asked = new AbortController();
    asking.current = asked;
    try {
      await new Promise((done) => setTimeout(done, 150));
      if (asked.signal.aborted) return;
      const answer = await call("/events/facets", { signal: asked.signal, params: { fields: spot.field, limit: 8, contains: spot.text.replace(/[*"]/g, ""), ...place.window() } });
      setOffers(answer.facets[0].values.map(({ value, count }) => ({ label: String(value), put: `${quoted(value)} `, from: spot.start, note: count.toLocaleString("en-US") })));
    } catch {
      setOffers([]); // no such field, or it is not there to be counted: nothing is offered, the search itself will say
    }
  };
  const take = (chosen) => {
    const input = inputRef.current, caret = input.selectionStart;
    const next = chosen.whole ?? text.slice(0, chosen.from) + chosen.put + text.slice(caret);
    setText(next);
    setOffers([]);
    const end = chosen.whole ? next.length : chosen.from + chosen.put.length;
    requestAnimationFrame(() => { input.focus(); input.setSelectionRange(end, end); if (!chosen.whole && chosen.put.endsWith(":")) offer(input); });
  };
  const submit = (event) => {
    event?.preventDefault();
    asking.current?.abort();
    setOffers([]);
    setShows(false);
    remember(text);
    onChange({ q: text });
  };
  const open = shows && offers.length > 0;
  const keys = (event) => {
    if (event.key === "Escape") { // the offers first, then the bar itself
      if (open) setShows(false);
      else event.target.blur();
      event.stopPropagation();
      return;
    }
    if (!open) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      setAt((at + (event.key === "ArrowDown" ? 1 : -1) + offers.length) % offers.length);
    } else if ((event.key === "Enter" || event.key === "Tab") && at >= 0) { event.preventDefault(); take(offers[at]); }
  };
  const column = error ? faultColumn(error) : 0;
  return html`<form class="search" role="search" onSubmit=${submit}>
    <div class="query">
      <input ref=${inputRef} type="search" value=${text} placeholder=${HINT} aria-label="Query" spellcheck="false" autocomplete="off"
        autocapitalize="off" role="combobox" aria-expanded=${open} aria-controls="offers" aria-autocomplete="list" aria-activedescendant=${at >= 0 ? `offer-${at}` : undefined}
        aria-invalid=${Boolean(error)} aria-describedby=${error ? "fault" : undefined}
        onInput=${(event) => { setText(event.target.value); setShows(true); offer(event.target); }} onFocus=${(event) => { setShows(true); offer(event.target); }}
        onBlur=${() => setTimeout(() => setShows(false), 150)} onKeyDown=${keys} />
      ${open && html`<ul id="offers" role="listbox" aria-label="Completions">${offers.map((one, n) => html`<li key=${one.label + n} id=${`offer-${n}`} role="option" aria-selected=${n === at}
        onPointerDown=${(event) => { event.preventDefault(); take(one); }}><span>${one.label}</span> <span class="quiet">${one.note}</span></li>`)}</ul>`}
      ${error && html`<div class="fault" id="fault" role="alert">${column > 0 && error.errors.some(({ field }) => field === "q")
        ? html`<pre>${text}${"\n"}${" ".repeat(column - 1)}▲</pre>` : ""}<span>${faultText(error)}</span></div>`}
    </div>
    <button class="go" aria-busy=${busy}>Search</button>
  </form>`;
}

const faultText = (error) => error.errors.length
  ? error.errors.map(({ field, error: why, suggestion }) => `${field === "q" ? "" : `${field}: `}${why.split("\n")[0]}${suggestion ? `; ${suggestion}` : ""}`).join(" · ")
  : error.message;

export function Range({ place, onChange }) {
  const [open, setOpen] = useState(false);
  const box = useRef(null);
  const relative = !place.to && isRelative(place.from);
  useOutside(box, () => setOpen(false));
  const absolute = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    try {
      const from = fromInput(form.get("from"), place.utc), to = fromInput(form.get("to"), place.utc);
      setOpen(false);
      onChange({ from, to });
    } catch {
      event.target.elements.from.focus(); // a time is missing
    }
  };
  return html`<div class="menu" ref=${box} onKeyDown=${(event) => { if (event.key === "Escape") setOpen(false); }}>
    <button aria-expanded=${open} aria-haspopup="dialog" onClick=${() => setOpen(!open)}>${span(place, place.utc)} · ${zoneName(place.utc)}</button>
    ${open && html`<div class="sheet" role="dialog" aria-label="Range of time">
      <div class="choices">${RANGES.map(([value, label]) => html`<button aria-pressed=${relative && place.from === value} onClick=${() => { setOpen(false); onChange({ from: value, to: "" }); }}>last ${label}</button>`)}</div>
      <form onSubmit=${absolute}><label>from <input name="from" type="datetime-local" step="1" required value=${toInput(moment(place.from), place.utc)} /></label>
        <label>to <input name="to" type="datetime-local" step="1" required value=${toInput(moment(place.to), place.utc)} /></label><button>Use these</button></form>
      <label class="line"><input type="checkbox" checked=${place.utc} onChange=${(event) => onChange({ utc: event.target.checked })} /> times in UTC</label>
    </div>`}
  </div>`;
}

export function Saved({ place, columns, onChange }) {
  const [open, setOpen] = useState(false);
  const [all, setAll] = useState([]);
  const [name, setName] = useState("");
  const [said, setSaid] = useState("");
  const box = useRef(null);
  useOutside(box, () => setOpen(false));
  const doing = async (work, done = "") => {
    try {
      await work();
      setAll((await call("/searches")).searches);
      setSaid(done);
    } catch (error) {
      setSaid(error.errors?.map(({ field, error: why }) => `${field}: ${why}`).join(" · ") || error.message);
    }
  };
  const save = (event) => {
    event.preventDefault();
    const query = { ...(place.q ? { q: place.q } : {}), start_time: place.from, ...(place.to ? { end_time: place.to } : {}) };
    doing(() => call("/searches", { method: "POST", body: { name, query, columns } }), `saved as ${name}`).then(() => setName(""));
  };
  return html`<div class="menu" ref=${box} onKeyDown=${(event) => { if (event.key === "Escape") setOpen(false); }}>
    <button aria-expanded=${open} aria-haspopup="dialog" onClick=${() => { setOpen(!open); if (!open) doing(async () => {}); }}>Saved</button>
    ${open && html`<div class="sheet" role="dialog" aria-label="Saved searches">
      <ul class="saved">${all.map((one) => html`<li key=${one.id}><button class="link" onClick=${() => { setOpen(false); onChange({ q: one.query.q || "", from: one.query.start_time || "-1h", to: one.query.end_time || "", cols: one.columns.join(",") }); }}>${one.name}</button>
        <button aria-label=${`Delete ${one.name}`} onClick=${() => doing(() => call(`/searches/${one.id}`, { method: "DELETE" }))}>✕</button></li>`)}</ul>
      ${!all.length && html`<p class="quiet">None yet.</p>`}
      <form class="line" onSubmit=${save}><label>Save this one as <input required maxlength="200" value=${name} onInput=${(event) => setName(event.target.value)} /></label> <button>Save</button></form>
      <p role="status" class="quiet">${said}</p></div>`}
  </div>`;
}
