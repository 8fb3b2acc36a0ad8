-- forget_range: remove what other tables keep of the jobs with ids from $1 to before $2.

select pgqueue.forget_range($1, $2)
