// Light or dark: as the system has it, until somebody chooses.
(function () {
  const root = document.documentElement;
  const set = (theme) => (theme ? (root.dataset.theme = theme) : delete root.dataset.theme);
  set(localStorage.getItem("skerry-theme"));
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("[data-switch-theme]")) return;
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    const theme = dark ? "light" : "dark";
    localStorage.setItem("skerry-theme", theme);
    set(theme);
  });
})();
