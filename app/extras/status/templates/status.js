"use strict";
// Fetches the page again and again, while somebody may be looking, and takes over the parts that have changed.
const PERIOD = 5000; // milliseconds
const here = location.origin + location.pathname;
const lost = document.getElementById("lost");
const again = document.getElementById("again");
let timer;

async function renew() {
  clearTimeout(timer);
  try {
    const answer = await fetch(here, { cache: "no-store", signal: AbortSignal.timeout(PERIOD) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    take(new DOMParser().parseFromString(await answer.text(), "text/html"));
    lost.hidden = true;
  } catch {
    lost.hidden = false; // what is shown is no longer true
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(renew, PERIOD);
}

function take(fresh) {
  if (!getSelection().isCollapsed) return; // somebody is copying something
  document.title = fresh.title;
  document.getElementById("icon").href = fresh.getElementById("icon").href;
  for (const part of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(part.id);
    part.className = now.className;
    if (part.innerHTML !== now.innerHTML) part.replaceChildren(...now.childNodes);
  }
}

if (again) {
  again.hidden = false;
  again.addEventListener("click", async () => {
    again.disabled = true;
    await fetch("status/refresh", { method: "POST" }).catch(() => undefined); // a failure shows in what follows
    await renew();
    again.disabled = false;
    again.focus();
  });
}
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : renew()));
timer = setTimeout(renew, PERIOD);
