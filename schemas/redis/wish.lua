-- Somebody wants the job cancelled. Only the holder of the claim ends a job: the wish is set, and who holds it is said.
-- KEYS: j:{job}
-- ARGV: org, session ('' any)
-- Returns a list: state, worker that holds a live claim ('' none). State '' where nothing stands here (or another organisation's,
-- or another session's).
local h = redis.call('HMGET', KEYS[1], 'state', 'worker', 'lease', 'org', 'session')
if not h[1] or h[4] ~= ARGV[1] or (ARGV[2] ~= '' and h[5] ~= ARGV[2]) then
	return {'', ''}
end
if h[1] == 'queued' or h[1] == 'running' then
	redis.call('HSET', KEYS[1], 'wish', 'cancel')
end
local t = redis.call('TIME')
if h[2] and tonumber(h[3] or '0') > t[1] * 1000 + math.floor(t[2] / 1000) then
	return {h[1], h[2]}
end
return {h[1], ''}
