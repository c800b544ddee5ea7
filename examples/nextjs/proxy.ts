export { proxy } from "@/auth/proxy";

export const config = { matcher: ["/admin/:path*"] };
