import { Link } from "react-router";
import { required } from "../session.server.js";

export async function loader({ request }) {
	return { name: (await required(request)).name };
}

export default function Settings() {
	return (
		<>
			<h1>Settings</h1>
			<Link to="/admin">Admin</Link>
		</>
	);
}
