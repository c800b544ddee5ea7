import { notes } from "../../../people.mjs";
import { required } from "../session.server.js";

export async function loader({ request }) {
	await required(request);
	return Response.json({ notes: (await notes()).length });
}
