// What every page does: times by the reader's clock, copy buttons, light and dark, and a look for news now and then.
(() => {
  "use strict";
  const LOOK_EVERY = 3000;
  const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const notice = document.getElementById("notice");

  function enliven(root) {
    for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
      time.title = time.textContent;
      time.textContent = clock.format(new Date(time.dateTime));
    }
    for (const button of root.querySelectorAll(".copy[hidden]")) button.hidden = false;
  }

  async function copy(button) {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      tell("Copied.");
      button.classList.add("copied");
      setTimeout(() => button.classList.remove("copied"), 1500);
    } catch {
      code.textContent = button.dataset.copy;
      getSelection().selectAllChildren(code);
      tell("The browser does not let pages copy; the text is selected.");
    }
  }

  function tell(text) {
    notice.textContent = text;
    clearTimeout(tell.timer);
    tell.timer = setTimeout(() => { notice.textContent = ""; }, 5000);
  }

  function prepareTheme() {
    const button = document.getElementById("theme");
    const isDark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    const label = () => { button.querySelector("span").textContent = isDark() ? "Light" : "Dark"; };
    button.hidden = false;
    label();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
    button.addEventListener("click", () => {
      const chosen = isDark() ? "light" : "dark";
      document.documentElement.dataset.theme = chosen;
      try { localStorage.setItem("penstock.theme", chosen); } catch { /* it lasts as long as the page */ }
      label();
    });
  }

  // a page that was the answer to a form gets the address of what it shows: loading it again sends nothing twice
  const moved = document.querySelector("[data-address]");
  if (moved) history.replaceState(null, "", moved.dataset.address);

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".copy");
    if (button) copy(button);
  });
  document.body.addEventListener("htmx:afterSettle", (event) => enliven(event.detail.elt.parentElement || document));
  document.body.addEventListener("htmx:responseError", (event) => {
    if (event.detail.xhr.status === 401) location.reload();
    else tell("The answer does not come just now; this page asks again.");
  });
  document.body.addEventListener("htmx:sendError", () => tell("Penstock cannot be reached just now; this page asks again."));
  // nobody who copies from a list, or is on it with the keyboard, has it replaced under the hand
  const isBusyIn = (list) => list.contains(document.activeElement) || (!getSelection().isCollapsed && list.contains(getSelection().anchorNode));
  setInterval(() => {
    if (document.hidden) return;
    for (const list of document.querySelectorAll("[data-look]")) if (!isBusyIn(list)) htmx.trigger(list, "look");
  }, LOOK_EVERY);

  window.penstock = { enliven, tell };
  prepareTheme();
  enliven(document);
})();
