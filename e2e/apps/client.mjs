// What the pages of pages.mjs do in the browser, with the client of a library.

/**
 * Starts it. Given are:
 *
 * - signIn(email, password)
 * - signOutElsewhere()
 * - watch(shows): calls shows with the e-mail address of who is signed in, at each change
 */
export function start({ signIn, signOutElsewhere, watch }) {
	addEventListener("DOMContentLoaded", () => {
		watch((email) => {
			document.querySelector("output").textContent = email ?? "nobody";
		});
	});
	addEventListener("submit", async (event) => {
		if (location.pathname !== "/login") return;
		event.preventDefault();
		const { email, password } = Object.fromEntries(new FormData(event.target));
		const answer = await signIn(email, password);
		if (answer?.error) throw answer.error;
		document.cookie; // Chromium may set cookies after the next request, unless they are read
		location.assign("/admin");
	});
	addEventListener("click", async ({ target }) => {
		if (target.textContent !== "Sign out elsewhere") return;
		await signOutElsewhere();
		target.textContent = "Signed out elsewhere";
	});
}
