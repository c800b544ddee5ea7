#!/bin/sh
# notify.sh <event> [detail…] posts an event to a webhook that takes
# {"text": …}, such as Slack, Mattermost, Teams and Zulip. It needs curl, jq and
# WEBHOOK_URL in Caddy's environment.
#
# To send mail instead, replace the last command with
#	printf '%s\n' "$text" | mail -s "$event" operators@example.com
set -eu
event=$1
shift
text="$event: $*"
jq --null-input --compact-output --arg text "$text" '{$text}' |
	curl --silent --show-error --fail --max-time 10 --output /dev/null \
		--header 'Content-Type: application/json' --data-binary @- "$WEBHOOK_URL"
