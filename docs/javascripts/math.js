// Draws the formulas of a page that has some, with KaTeX from this site's own files; other pages load none of it.
(() => {
  const own = new URL("../katex/", document.currentScript.src);
  const formulas = document.querySelectorAll(".arithmatex");
  if (!formulas.length) return;
  const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL("katex.css", own) });
  const script = Object.assign(document.createElement("script"), { src: new URL("katex.js", own) });
  script.onload = () => {
    for (const formula of formulas) {
      // arithmatex hands them on as \(...\) in a line and \[...\] by themselves
      const text = formula.textContent.trim().slice(2, -2);
      katex.render(text, formula, { displayMode: formula.tagName === "DIV" });
    }
  };
  document.head.append(style, script);
})();
