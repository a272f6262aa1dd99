// Shows the users that the form asks for; all of them stay in the page.
(function () {
  const form = document.getElementById("users-filter");
  if (!form) return;
  const users = Array.from(document.querySelectorAll("#users-list > details"));
  const choices = Array.from(form.querySelectorAll("select"));
  function show() {
    let shown = 0;
    for (const user of users) {
      user.hidden = !choices.every((one) => !one.value
        || (one.name === "kinds" ? user.dataset.kinds.split(" ").includes(one.value) : user.dataset[one.name] === one.value));
      shown += !user.hidden;
    }
    form.elements.shown.textContent = shown + " of " + users.length + " users";
  }
  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show();
})();
