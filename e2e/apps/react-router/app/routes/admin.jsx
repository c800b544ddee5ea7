import { Form, Link, useFetcher, useLoaderData } from "react-router";
import { notes, saveNote } from "../../../people.mjs";
import { required } from "../session.server.js";

export async function loader({ request }) {
	const { name } = await required(request);
	return { name, notes: await notes() };
}

export async function action({ request }) {
	const { id } = await required(request);
	await saveNote(id, (await request.formData()).get("note"));
	return null;
}

export default function Admin() {
	const data = useLoaderData();
	const fetcher = useFetcher();
	return (
		<>
			<h1>Admin</h1>
			<p>Hello {data.name}</p>
			<Form method="post">
				<label>Note <input name="note" /></label>
				<button>Save note</button>
			</Form>
			<fetcher.Form method="post">
				<input type="hidden" name="note" value="by fetcher" />
				<button>Save by fetcher</button>
			</fetcher.Form>
			<ul>{data.notes.map((note, i) => <li key={i}>{note}</li>)}</ul>
			<Link to="/admin/settings" prefetch="intent">Settings</Link>
		</>
	);
}
