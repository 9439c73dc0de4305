// One event, whole: every field with ways to narrow down by it, its text laid out, and the lines around it in its file.

import { html, useEffect, useRef, useState } from "./vendor/preact-htm.js";
import { call } from "./api.js";
import { shown } from "./moments.js";
import { address } from "./place.js";
import { LETTERS, Message, Whole, fieldsOf } from "./texts.js";

export function Detail({ event, place, marks, onToggle, onClose, onContext }) {
  const top = useRef(null);
  const [copied, setCopied] = useState("");
  useEffect(() => { setCopied(""); top.current?.focus({ preventScroll: true }); }, [event.id]);
  const copy = async (what, text) => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(`${what} copied`);
    } catch {
      setCopied("the browser does not let this page copy");
    }
  };
  const link = location.origin + address({ ...place, event: event.id, context: "", live: false });
  return html`<section class="detail" aria-label="One event" ref=${top} tabindex="-1">
    <header><h2><span class=${`key s-${event.severity}`}>${LETTERS[event.severity]}</span> ${shown(event.timestamp, place.utc)}</h2>
      <button onClick=${onClose} aria-label="Close this event" title="Esc">✕</button></header>
    <p class="actions"><button onClick=${onContext}>Show context</button>
      <button onClick=${() => copy("JSON", JSON.stringify(event, null, 2))}>Copy as JSON</button>
      <button onClick=${() => copy("Link", link)}>Copy link</button> <span role="status">${copied}</span></p>
    <${Whole} text=${event.message || event.title} marks=${marks} />
    ${event.error_details.stack_trace && html`<details class="trace" open><summary>stack trace</summary><pre class="whole">${event.error_details.stack_trace}</pre></details>`}
    ${["payload", "metadata"].map((name) => Object.keys(event[name]).length > 0 && html`<details><summary>${name}</summary><pre class="whole">${JSON.stringify(event[name], null, 2)}</pre></details>`)}
    <table class="fields"><caption class="away">Fields of this event</caption><tbody>${fieldsOf(event).map(([name, value]) => html`<tr key=${name}>
      <th scope="row">${name}</th><td>${String(value)}</td>
      <td class="narrow"><button aria-label=${`only ${name} ${value}`} title="only these" onClick=${() => onToggle(name, value, false)}>+</button>
        <button aria-label=${`without ${name} ${value}`} title="leave these out" onClick=${() => onToggle(name, value, true)}>−</button></td></tr>`)}</tbody></table>
  </section>`;
}

export function Context({ id, utc, onClose, onChoose }) {
  const [state, setState] = useState({ rows: [], busy: true });
  const middle = useRef(null);
  const load = async (params, merge) => {
    setState((old) => ({ ...old, busy: true }));
    try {
      const answer = await call(`/events/context/${encodeURIComponent(id)}`, { params });
      setState((old) => ({ ...merge(old, answer), busy: false }));
    } catch (error) {
      setState((old) => ({ ...old, busy: false, error }));
    }
  };
  useEffect(() => {
    load({ before: 30, after: 30 }, (_, answer) => ({
      rows: [...answer.before, answer.event, ...answer.after], by: answer.by, exact: answer.exact, path: answer.event.path,
      earlier: answer.before_cursor, later: answer.after_cursor,
    }));
  }, [id]);
  useEffect(() => middle.current?.scrollIntoView({ block: "center" }), [state.path, state.by]);
  const earlier = () => load({ cursor: state.earlier, before: 100 }, (old, answer) => ({ ...old, rows: [...answer.before, ...old.rows], earlier: answer.before_cursor }));
  const later = () => load({ cursor: state.later, after: 100 }, (old, answer) => ({ ...old, rows: [...old.rows, ...answer.after], later: answer.after_cursor }));
  return html`<section class="context" role="dialog" aria-modal="true" aria-label="Lines around one event">
    <header><h2>${state.by === "file" ? state.path : "Events of the same service"}</h2>
      <button onClick=${onClose} aria-label="Close the context" title="Esc">✕</button></header>
    ${state.exact === false && html`<p class="quiet">Put together by time: these lines may not stand side by side in one file.</p>`}
    ${state.error && html`<p class="fault" role="alert">${state.error.message}</p>`}
    <div class="lines" tabindex="0" aria-label="Lines">
      ${state.earlier && html`<button class="link" disabled=${state.busy} onClick=${earlier}>earlier lines</button>`}
      ${state.rows.map((event) => html`<div key=${event.id} class=${`line l-${event.severity} ${event.id === id ? "this" : ""}`} ref=${event.id === id ? middle : null}
        aria-current=${event.id === id} onClick=${() => onChoose(event)}><time>${shown(event.timestamp, utc)}</time> <span><${Message} text=${event.message || event.title} /></span></div>`)}
      ${state.busy && html`<p class="quiet">Looking …</p>`}
      ${state.later && html`<button class="link" disabled=${state.busy} onClick=${later}>later lines</button>`}
    </div>
  </section>`;
}
