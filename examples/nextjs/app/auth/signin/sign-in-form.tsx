"use client";

import { useState } from "react";
import { signIn } from "@/auth/client";

const messages: Record<string, string> = {
	SessionRequired: "Please sign in to access this page.",
	CredentialsSignin: "Wrong e-mail or password.",
};

type Props = { callbackUrl?: string; error?: string; oauth: boolean };

export function SignInForm({ callbackUrl, error: initialError, oauth }: Props) {
	const [error, setError] = useState(initialError);
	const [pending, setPending] = useState(false);

	async function submit(event: React.FormEvent<HTMLFormElement>) {
		event.preventDefault();
		const { email, password } = Object.fromEntries(new FormData(event.currentTarget));
		const target = ownSite(callbackUrl);
		setPending(true);
		const result = await signIn("credentials", { email, password, callbackUrl: target, redirect: false });
		if (result?.ok && !result.error) {
			// A full page load: the router may have cached pages from before the sign-in.
			window.location.assign(target);
			return;
		}
		setPending(false);
		setError(result?.error ?? "Default");
	}

	return (
		<form onSubmit={submit}>
			{error && <p role="alert">{messages[error] ?? "Could not sign in. Please try again."}</p>}
			<label>
				E-mail <input name="email" type="email" autoComplete="username" required />
			</label>
			<label>
				Password <input name="password" type="password" autoComplete="current-password" required />
			</label>
			<button disabled={pending}>Sign in</button>
			{oauth && (
				<button type="button" onClick={() => signIn("test", { callbackUrl: ownSite(callbackUrl) })}>
					Sign in with Test
				</button>
			)}
		</form>
	);
}

/** Returns the path to open after signing in, never one of another site. */
function ownSite(callbackUrl = "/") {
	const { origin } = window.location;
	if (!URL.canParse(callbackUrl, origin)) return "/";
	const url = new URL(callbackUrl, origin);
	return url.origin === origin ? url.pathname + url.search + url.hash : "/";
}
