package postgres

import "github.com/seed-4adef13c/caddy-stale-session/directories"

// diagnoseIDs checks whether the id of a user who is gone may be another user's.
func diagnoseIDs(s *statement) []directories.Finding {
	if s.id.kind != kindInteger || len(s.matched) > 0 {
		return nil
	}
	text := "ids are integers, which a reset gives to other users: only created_at tells whose a session is"
	if s.users.CreatedAt == "" {
		text = "ids are integers, which a reset gives to other users: nothing tells whose a session is"
	}
	return []directories.Finding{note(text, "if the session has an e-mail address, add `match email email` to the block of `users`")}
}
