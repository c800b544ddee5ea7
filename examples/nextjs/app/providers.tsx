"use client";

import { SessionProvider } from "@/auth/client";

export function Providers({ children }: { children: React.ReactNode }) {
	return (
		<SessionProvider refetchInterval={Number(process.env.NEXT_PUBLIC_REFETCH ?? 5)} refetchOnWindowFocus>
			{children}
		</SessionProvider>
	);
}
