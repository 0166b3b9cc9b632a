-- Delete a claim that an owner holds.
--
-- KEYS[1]   the claim
-- ARGV[1]   the owner
-- returns   1 where it was deleted, 0 where another holds it or nobody
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
