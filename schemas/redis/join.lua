-- A WebSocket client comes to a session, or back to it. Jobs that others submit to it wait for its clients from now on.
-- KEYS: s:{session}
-- Returns a list: the time, Redis's own, in microseconds; the session's organisation ('': it does not stand).
local t = redis.call('TIME')
local org = redis.call('HGET', KEYS[1], 'org')
if org then
	redis.call('HDEL', KEYS[1], 'unheard')
end
return {string.format('%.0f', t[1] * 1000000 + t[2]), org or ''}
