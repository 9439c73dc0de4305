// What menus have in common: a press anywhere else closes them.

import { useEffect } from "./vendor/preact-htm.js";

export function useOutside(box, close) {
  useEffect(() => {
    const pressed = (event) => { if (!box.current?.contains(event.target)) close(); };
    document.addEventListener("pointerdown", pressed);
    return () => document.removeEventListener("pointerdown", pressed);
  }, []);
}
