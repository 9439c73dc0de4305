// What is shown, in the address: a link shows a colleague the same, and the browser's back button undoes.

const DEFAULTS = { view: "events", q: "", from: "-1h", to: "", utc: false, cols: "", wrap: false, event: "", context: "", live: false };
const KEPT = "pulsestream.shown";

const read = (text) => {
  const said = new URLSearchParams(text);
  const found = { ...DEFAULTS, ...remembered() };
  for (const name of Object.keys(DEFAULTS)) {
    const value = said.get(name);
    if (value !== null) found[name] = typeof DEFAULTS[name] === "boolean" ? value === "1" : value;
  }
  return found;
};

// Columns, zone and wrapping are a person's habits: remembered on this machine, unless an address says otherwise.
function remembered() {
  try {
    const { cols = "", utc = false, wrap = false } = JSON.parse(localStorage.getItem(KEPT) || "{}");
    return { cols, utc, wrap };
  } catch {
    return {};
  }
}

export const now = () => read(location.search);

export function address(place) {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(place)) {
    if (value !== DEFAULTS[name] || name === "from") said.set(name, value === true ? "1" : value === false ? "0" : value);
  }
  return `/?${said}`;
}

export function go(place, { replace = false } = {}) {
  const { cols, utc, wrap } = place;
  localStorage.setItem(KEPT, JSON.stringify({ cols, utc, wrap }));
  const url = address(place);
  if (url === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", url);
}

const list = (name) => {
  try {
    return JSON.parse(localStorage.getItem(name) || "[]");
  } catch {
    return [];
  }
};

const HISTORY = "pulsestream.history";
export const past = () => list(HISTORY);
export const remember = (q) => {
  if (q.trim()) localStorage.setItem(HISTORY, JSON.stringify([q, ...past().filter((old) => old !== q)].slice(0, 30)));
};
