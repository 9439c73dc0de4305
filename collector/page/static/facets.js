// The values of a few fields with their exact counts, for what is shown now. A click narrows down to one, or leaves it out.

import { html, useState } from "./vendor/preact-htm.js";
import { number } from "./moments.js";
import { LETTERS } from "./texts.js";
import { has } from "./terms.js";

export const FACETS = ["severity", "service", "source", "agent", "event_type", "status_code", "path"];
const FEW = 6;

export function Facets({ answer, q, onToggle }) {
  if (!answer) return html`<aside class="facets" aria-label="Values of fields"></aside>`;
  return html`<aside class="facets" aria-label="Values of fields">
    ${answer.facets.filter((facet) => facet.values.length).map((facet) => html`<${Facet} key=${facet.field} facet=${facet} q=${q} onToggle=${onToggle} />`)}
  </aside>`;
}

function Facet({ facet, q, onToggle }) {
  const [all, setAll] = useState(false);
  const shown = all ? facet.values : facet.values.slice(0, FEW);
  const most = Math.max(...facet.values.map(({ count }) => count), 1);
  return html`<details open><summary>${facet.field} <span class="quiet">${number(facet.distinct_count)}</span></summary>
    <ul>${shown.map(({ value, count }) => {
      const only = has(q, facet.field, value, false), not = has(q, facet.field, value, true);
      return html`<li key=${value} class=${only ? "only" : not ? "not" : ""}>
        <button class="value" aria-pressed=${only} title=${`only ${facet.field} ${value}`} onClick=${() => onToggle(facet.field, value, false)}>
          ${facet.field === "severity" && html`<span class=${`key s-${value}`}>${LETTERS[value]}</span>`}
          <span class="name">${String(value) || "(empty)"}</span><span class="count">${number(count)}</span>
          <meter min="0" max=${most} value=${count} aria-hidden="true"></meter></button>
        <button class="out" aria-pressed=${not} aria-label=${`without ${facet.field} ${value}`} title="leave these out"
          onClick=${() => onToggle(facet.field, value, true)}>−</button></li>`;
    })}</ul>
    ${facet.values.length > FEW && html`<button class="link" onClick=${() => setAll(!all)}>${all ? "fewer" : `${facet.values.length - FEW} more`}</button>`}
    ${facet.other_count > 0 && html`<p class="quiet">${number(facet.other_count)} with other values</p>`}
  </details>`;
}
