-- Asks with a random session of a file each time, and looks at every answer.
-- Prints a line of JSON at the end.

local threads = {}

function setup(thread)
	threads[#threads + 1] = thread
end

function init(args)
	asks, wrong = {}, 0
	for session in io.lines(args[1]) do
		asks[#asks + 1] = wrk.format("GET", nil, { Cookie = session })
	end
	math.randomseed(os.time())
end

function request()
	return asks[math.random(#asks)]
end

function response(status, _, body)
	if status ~= 200 or body ~= "app\n" then
		wrong = wrong + 1
	end
end

function done(summary, latency)
	local wrong = 0
	for _, thread in ipairs(threads) do
		wrong = wrong + thread:get("wrong")
	end
	local e = summary.errors
	print(string.format(
		'{"requests":%d,"duration":%d,"p50":%d,"p99":%d,"wrong":%d,"failed":%d}',
		summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
		wrong, e.connect + e.read + e.write + e.timeout
	))
end
