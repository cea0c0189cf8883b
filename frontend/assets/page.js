"use strict";
// Runs before Gradio starts. Themes, panels, keys: whatever needs no server.

const THEME = "byollm-theme";
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const system = () => (systemDark.matches ? "dark" : "light");
const theme = () => localStorage.getItem(THEME) ?? system();

function applyTheme() {
  document.documentElement.style.colorScheme = theme();
  document.documentElement.classList.toggle("dark", theme() === "dark");
  document.body?.classList.toggle("dark", theme() === "dark");
  const button = document.getElementById("toggle-theme");
  if (button) {
    button.title = theme() === "dark" ? "Light theme" : "Dark theme";
    button.setAttribute("aria-label", button.title);
  }
}

function toggleTheme() {
  const wanted = theme() === "dark" ? "light" : "dark";
  // back at the system's own choice, follow it again
  if (wanted === system()) localStorage.removeItem(THEME);
  else localStorage.setItem(THEME, wanted);
  applyTheme();
}

const PANELS = { "open-settings": "settings-panel", "open-model": "model-panel" };

const panelOpen = () => document.body.dataset.panel;

function showPanel(id) {
  const before = panelOpen();
  if (id) document.body.dataset.panel = id;
  else delete document.body.dataset.panel;
  for (const [opener, panel] of Object.entries(PANELS)) {
    const button = document.getElementById(opener);
    button.setAttribute("aria-expanded", String(panel === id));
    // who closes a panel goes on where it was opened
    if (!id && panel === before && document.getElementById(panel).contains(document.activeElement)) button.focus();
  }
  if (id) document.querySelector(`#${id} .panel-head button`).focus();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.id === "toggle-theme") toggleTheme();
  else if (button.id in PANELS) showPanel(panelOpen() === PANELS[button.id] ? undefined : PANELS[button.id]);
  else if (button.closest(".panel-head")) showPanel();
  else if (button.id === "new-chat") document.querySelector("#composer textarea").focus();
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented) return;
  if (panelOpen()) showPanel();
  else document.querySelector("#composer .stop-button")?.click();
});

systemDark.addEventListener("change", () => setTimeout(applyTheme));

// The page's note beneath an answer is no part of it: leave it out of what is copied.
const writeText = navigator.clipboard?.writeText.bind(navigator.clipboard);
if (writeText) navigator.clipboard.writeText = (text) => writeText(text.replace(/\n?\u2063[^]*$/, ""));

applyTheme();

// Gradio lays the page out after loading: name its parts for screen readers when they are there.
function label() {
  const laidOut = Object.entries(PANELS).every(([opener, panel]) =>
    document.getElementById(opener) && document.querySelector(`#${panel} h2`));
  if (!laidOut) return false;
  for (const [opener, panel] of Object.entries(PANELS)) {
    const element = document.getElementById(panel);
    element.setAttribute("role", "region");
    element.setAttribute("aria-label", element.querySelector("h2").textContent);
    document.getElementById(opener).setAttribute("aria-controls", panel);
    document.getElementById(opener).setAttribute("aria-expanded", "false");
  }
  applyTheme();
  return true;
}
const observer = new MutationObserver(() => label() && observer.disconnect());
observer.observe(document, { childList: true, subtree: true });
