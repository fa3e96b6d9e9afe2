// ---- the history

function showHistory() {
  at("chosen").replaceChildren(...[...state.history].map(([id, name]) => element("li", {},
    element("button", { type: "button", "aria-label": `Remove ${name}`, onclick: () => { state.history.delete(id); showHistory(); at("seek").focus(); again(); } }, `${brief(name)} ×`))));
}

function take(item) {
  state.history.set(item.item_id, item.name);
  if (mode() === "user") document.querySelector("input[name=mode][value=history]").checked = true;
  showMode();
  showHistory();
}

function showHits(hits) {
  state.hits = hits;
  state.active = hits.length ? 0 : -1;
  at("found").replaceChildren(...hits.map((item, place) => element("li", {
    role: "option", id: `hit-${place}`, onmousedown: event => { event.preventDefault(); pick(place); },
  }, brief(item.name), element("div", { class: "faint" }, facts(item) || `id ${brief(item.item_id)}`))));
  showActive();
}

function showActive() {
  const open = state.hits.length > 0;
  at("found").hidden = !open;
  at("seek").setAttribute("aria-expanded", String(open));
  [...at("found").children].forEach((option, place) => option.setAttribute("aria-selected", String(place === state.active)));
  if (open) {
    at("seek").setAttribute("aria-activedescendant", `hit-${state.active}`);
    at(`hit-${state.active}`).scrollIntoView({ block: "nearest" });
  } else at("seek").removeAttribute("aria-activedescendant");
}

// What is still looked for is not shown any more.
function closeHits() {
  state.seeking++;
  showHits([]);
}

function pick(place) {
  take(state.hits[place]);
  at("seek").value = "";
  closeHits();
  again();
}

async function seek() {
  const number = ++state.seeking, sought = at("seek").value.trim();
  if (!sought) return showHits([]);
  await new Promise(resolve => setTimeout(resolve, 120));
  if (number !== state.seeking) return;
  try {
    const answer = await call(`v1/search?limit=8&q=${encodeURIComponent(sought.slice(0, 2000))}`);
    if (number !== state.seeking) return;
    at("error").textContent = "";
    state.sought = sought;
    showHits(answer.items);
    if (!answer.items.length) at("status").textContent = `No item is called “${brief(sought)}”.`;
  } catch (error) { if (number === state.seeking) at("error").textContent = error.message; }
}

at("seek").addEventListener("input", seek);
at("seek").addEventListener("blur", closeHits);
at("seek").addEventListener("keydown", event => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && state.hits.length) state.active = (state.active + step + state.hits.length) % state.hits.length;
  else if (event.key === "Enter") { if (state.hits.length && state.sought === at("seek").value.trim()) pick(state.active); }
  else if (event.key === "Escape" && state.hits.length) closeHits();
  else return;
  event.preventDefault();
  showActive();
});

function showMode() {
  at("user-field").hidden = mode() !== "user";
  at("history-field").hidden = mode() === "user";
  at("profile-field").hidden = mode() !== "profile";
}
