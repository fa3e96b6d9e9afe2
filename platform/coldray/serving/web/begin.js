// ---- the whole

function showModel(model) {
  const version = model.version === "-" ? "" : `, version ${model.version}`;
  at("model").textContent = `${model.name}${version} · ${state.catalogue.n_items.toLocaleString("en")} items, ${state.catalogue.n_users.toLocaleString("en")} users`;
}

async function begin() {
  const [catalogue, models] = [await call("v1/catalogue"), await call("v1/models")];
  state.catalogue = catalogue;
  showVersions(models[0]).catch(() => {}); // without the registry there is nothing to compare with
  at("user").placeholder = `for example ${catalogue.some_user}`;
  showModel(models[0]);
  showForm();
}

// Once, however often it is asked for; again if it failed.
const begun = () => state.beginning ??= begin().catch(error => { state.beginning = null; throw error; });

at("ask").addEventListener("submit", async event => {
  event.preventDefault();
  try {
    await begun();
    await recommend();
  } catch (error) { at("error").textContent = error.message; }
});
at("add").addEventListener("submit", event => { event.preventDefault(); add(); });
at("diversity").addEventListener("input", () => { at("diversity-said").textContent = at("diversity").value; });
for (const id of ["diversity", "candidates", "against"]) at(id).addEventListener("change", () => again());
at("k").addEventListener("change", () => again(state.last ?? recommend));
at("user").addEventListener("change", () => { if (onItsWay()) recommend(); });
at("profile-field").addEventListener("change", () => again());
for (const choice of document.querySelectorAll("input[name=mode]")) choice.addEventListener("change", () => { showMode(); if (onItsWay()) recommend(); });
showMode();
begun().catch(error => { at("error").textContent = error.message; });
