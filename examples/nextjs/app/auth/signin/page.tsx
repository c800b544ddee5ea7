import { redirect } from "next/navigation";
import { auth } from "@/auth";
import { SignInForm } from "./sign-in-form";

type Query = { callbackUrl?: string; error?: string };

export default async function SignIn({ searchParams }: { searchParams: Promise<Query> }) {
	if (await auth()) redirect("/admin");

	const { callbackUrl, error } = await searchParams;
	return (
		<>
			<h1>Sign in</h1>
			<SignInForm callbackUrl={callbackUrl} error={error} oauth={Boolean(process.env.OAUTH_ISSUER)} />
		</>
	);
}
