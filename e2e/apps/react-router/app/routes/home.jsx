import { Link } from "react-router";

export default function Home() {
	return (
		<>
			<h1>Example</h1>
			<Link to="/admin">Admin</Link>
		</>
	);
}
