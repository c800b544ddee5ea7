import { Form, redirectDocument, useSearchParams } from "react-router";
import { authorize } from "../../../people.mjs";
import { begin } from "../session.server.js";

export async function action({ request }) {
	const given = Object.fromEntries(await request.formData());
	const user = await authorize(given);
	if (!user) return null;
	const back = new URL(given.back || "/", "http://app");
	const path = back.host === "app" ? back.pathname + back.search : "/";
	return redirectDocument(path, { headers: { "Set-Cookie": await begin(user) } });
}

export default function Login() {
	const [parameters] = useSearchParams();
	return (
		<>
			<h1>Sign in</h1>
			{parameters.get("error") && <p role="alert">Please sign in to access this page.</p>}
			<Form method="post">
				<input type="hidden" name="back" value={parameters.get("callbackUrl") ?? ""} />
				<label>E-mail <input name="email" type="email" /></label>
				<label>Password <input name="password" type="password" /></label>
				<button>Sign in</button>
			</Form>
		</>
	);
}
