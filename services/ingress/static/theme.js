// Before anything is drawn: the colours that the reader chose last.
(() => {
  try {
    const chosen = localStorage.getItem("penstock.theme");
    if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  } catch { /* a browser that keeps nothing shows what its system says */ }
  document.documentElement.classList.add("scripted");
})();
