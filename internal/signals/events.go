package signals

// action is what an event leads to.
type action int

const (
	ignore     action = iota
	end               // the session that is named, or all of the user
	endUser           // all sessions of the user
	block             // and refuse new ones
	unblock           // let the user sign in again
	endAddress        // all sessions of the users with an address
	credential        // as configured
	verify            // the connection
	updated           // the stream
)

const (
	ssf   = "https://schemas.openid.net/secevent/ssf/event-type/"
	caep  = "https://schemas.openid.net/secevent/caep/event-type/"
	risc  = "https://schemas.openid.net/secevent/risc/event-type/"
	oauth = "https://schemas.openid.net/secevent/oauth/event-type/"
)

// actions are those of events, by their URI. All others are ignored.
var actions = map[string]action{
	caep + "session-revoked":   end,
	caep + "credential-change": credential,

	risc + "sessions-revoked":                   endUser,
	risc + "account-disabled":                   block,
	risc + "account-enabled":                    unblock,
	risc + "account-purged":                     block,
	risc + "credential-compromise":              endUser,
	risc + "account-credential-change-required": endUser,
	risc + "identifier-recycled":                endAddress,
	oauth + "tokens-revoked":                    endUser,

	ssf + "verification":   verify,
	risc + "verification":  verify, // of Google
	ssf + "stream-updated": updated,
}
